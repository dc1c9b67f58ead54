"""The same for WSGI: Flask (`app.wsgi_app = LitefsWsgiMiddleware(app.wsgi_app, litefs)`), and any other."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import Any

from litefs_py import NodeDown, WaitTimeout
from litefs_py.usecases import writes

from litefs_fastapi.asgi import SAFE_METHODS
from litefs_fastapi.cookies import Cookies
from litefs_fastapi.failures import TEXT, is_safe_to_repeat
from litefs_fastapi.mode import reading

log = logging.getLogger("litefs_fastapi")


class LitefsWsgiMiddleware:
    """What is written before the response begins is in the cookie; a generator that writes later is not."""

    def __init__(self, app: Callable[..., Iterable[bytes]], litefs: Any) -> None:
        self.app, self.litefs = app, litefs
        self.cookies = Cookies(litefs.settings)

    def __call__(
        self, environ: dict[str, Any], start_response: Callable[..., Any]
    ) -> Iterable[bytes]:
        """One request."""
        mount = self.litefs.mount
        token = self.cookies.read(environ.get("HTTP_COOKIE", ""))
        try:
            mount.wait(token, self.litefs.settings.wait_timeout)
        except WaitTimeout as error:
            log.warning("%s: served all the same: %s", environ.get("PATH_INFO"), error)
        except NodeDown:
            return self._unavailable(start_response)
        begun = False

        def with_cookie(status: str, headers: list[tuple[str, str]], *rest: Any) -> Any:
            nonlocal begun
            begun = True
            secure = environ.get("wsgi.url_scheme") == "https"
            header = self.cookies.write(mount, names, token, secure)
            return start_response(
                status, [*headers, *([("Set-Cookie", header)] if header else [])], *rest
            )

        with writes.watching() as names, reading(environ["REQUEST_METHOD"] in SAFE_METHODS):
            try:
                return self.app(environ, with_cookie)
            except Exception as error:
                if begun or not is_safe_to_repeat(error):
                    raise
                return self._unavailable(start_response)

    def _unavailable(self, start_response: Callable[..., Any]) -> list[bytes]:
        headers = [
            ("Content-Type", "text/plain"),
            ("Content-Length", str(len(TEXT))),
            ("Retry-After", str(self.litefs.settings.retry_after)),
            ("Cache-Control", "no-store"),
        ]
        start_response("503 Service Unavailable", headers)
        return [TEXT]
