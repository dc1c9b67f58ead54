"""The cookie with positions, as headers have it. Knows no framework; ASGI and WSGI both use it."""

from __future__ import annotations

import time

from litefs_py import NodeDown, SettingsError, Token
from litefs_py.adapters.config.app import AppSettings
from litefs_py.adapters.mount import Mount
from litefs_py.domain import cookie

# A browser that sends more than this of cookies means no good.
_LONGEST_HEADER = 16384


class Cookies:
    """Reads tokens from requests, and writes them to responses."""

    def __init__(self, settings: AppSettings) -> None:
        self.settings = settings
        self.on = settings.enabled and settings.read_your_writes
        if self.on and not settings.secret:
            raise SettingsError(
                "secret: the cookie has to be signed; give one that all nodes share, or read_your_writes=False"
            )
        self._keys = [(settings.secret or "").encode()]

    def read(self, header: str) -> Token:
        """Of a `Cookie` header; empty when there is none of ours."""
        if not self.on or len(header) > _LONGEST_HEADER:
            return Token()
        for pair in header.split(";"):
            name, _, value = pair.strip().partition("=")
            if name == self.settings.cookie_name:
                return cookie.read(value.strip('"'), self._keys, time.time()) or Token()
        return Token()

    def write(self, mount: Mount, names: set[str], before: Token, secure: bool) -> str | None:
        """A `Set-Cookie` header for what was written; none when nothing was."""
        if not self.on or not names:
            return None
        try:
            now = mount.token(*names)
        except NodeDown:
            # It was committed; only where is not known.
            return None
        value = cookie.sign(before.joined(now), self._keys[0], time.time())
        if not value:
            return None
        end = "; Secure" if secure else ""
        age = self.settings.cookie_max_age
        return f"{self.settings.cookie_name}={value}; Max-Age={age}; Path=/; HttpOnly; SameSite=Lax{end}"
