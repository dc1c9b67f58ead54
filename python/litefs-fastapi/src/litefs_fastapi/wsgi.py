"""The same for WSGI: Flask (`app.wsgi_app = LitefsWsgiMiddleware(app.wsgi_app, litefs)`), and any other."""

from __future__ import annotations

import http
import logging
import os
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import quote

from litefs_py import NodeDown, WaitTimeout
from litefs_py.adapters import forward
from litefs_py.usecases import forwarding, writes
from litefs_py.usecases.forwarding import Answer, Forward, Hop

from litefs_fastapi import failures
from litefs_fastapi.cookies import Cookies
from litefs_fastapi.mode import reading

log = logging.getLogger("litefs_fastapi")

Start = Callable[..., Any]


class LitefsWsgiMiddleware:
    """What is written before the response begins is in the cookie; a generator that writes later is not."""

    def __init__(self, app: Callable[..., Iterable[bytes]], litefs: Any) -> None:
        self.app, self.litefs = app, litefs
        self.cookies = Cookies(litefs.settings)
        self.rules: forwarding.Rules = litefs.settings.rules

    def __call__(self, environ: dict[str, Any], start_response: Start) -> Iterable[bytes]:
        """One request."""
        mount = self.litefs.mount
        method, path = environ["REQUEST_METHOD"], _path(environ)
        if self.rules.concern(method, path):
            step = self.rules.before(forwarding.of_environ(environ), mount.primary())
            if step is not None:
                return self._instead(step, environ, start_response)
        token = self.cookies.read(environ.get("HTTP_COOKIE", ""))
        try:
            # On the primary a position that is not there was lost with the primary before, and never comes.
            if token and not mount.is_primary():
                mount.wait(token, self.litefs.settings.wait_timeout)
        except WaitTimeout as error:
            log.warning("%s: served all the same: %s", environ.get("PATH_INFO"), error)
        except NodeDown:
            return _answer(start_response, self.rules.unavailable())
        begun = False

        def with_cookie(status: str, headers: list[tuple[str, str]], *rest: Any) -> Any:
            nonlocal begun
            begun = True
            secure = environ.get("wsgi.url_scheme") == "https"
            header = self.cookies.write(mount, names, token, secure)
            return start_response(
                status, [*headers, *([("Set-Cookie", header)] if header else [])], *rest
            )

        with writes.watching() as names, reading(not self.rules.is_write(method, path)):
            try:
                return self.app(environ, with_cookie)
            except Exception as error:
                failure = failures.safe_to_repeat(error)
                if begun or failure is None:
                    raise
        step = self.rules.after(method, path, forwarding.of_environ(environ), failure)
        return self._instead(step, environ, start_response)

    def _instead(
        self, step: Forward | Answer, environ: dict[str, Any], start_response: Start
    ) -> Iterable[bytes]:
        if isinstance(step, Answer):
            return _answer(start_response, step)
        headers = forwarding.of_environ(environ)
        endless = bool(environ.get("wsgi.input_terminated"))
        length = forwarding.announced(headers, endless) if step.body else 0
        hop = Hop(
            os.uname().nodename, environ.get("REMOTE_ADDR"), environ.get("wsgi.url_scheme", "http")
        )
        request = forward.Outgoing(
            step.url, _target(environ), environ["REQUEST_METHOD"], forwarding.outward(headers, hop),
            length, self.litefs.settings.forward_timeout,
        )  # fmt: skip
        try:
            answer = forward.send(request, forward.pieces(environ["wsgi.input"], length))
        except forward.NotSent as error:
            log.warning("%s: the primary is not reached: %s", environ.get("PATH_INFO"), error)
            return _answer(start_response, self.rules.unavailable())
        except forward.NoAnswer as error:
            log.error("%s: no answer from the primary: %s", environ.get("PATH_INFO"), error)
            return _answer(start_response, forwarding.no_answer())
        start_response(_status(answer.status), _text(answer.headers))
        return answer


def _path(environ: dict[str, Any]) -> str:
    path: str = environ.get("SCRIPT_NAME", "") + environ.get("PATH_INFO", "")
    return path.encode("latin-1", "replace").decode("utf-8", "replace")


def _target(environ: dict[str, Any]) -> bytes:
    path = environ.get("SCRIPT_NAME", "") + environ.get("PATH_INFO", "")
    query = environ.get("QUERY_STRING", "").encode("latin-1", "replace")
    return forwarding.target(quote(path.encode("latin-1", "replace")).encode(), query)


def _answer(start_response: Start, answer: Answer) -> list[bytes]:
    start_response(_status(answer.status), _text(answer.headers))
    return [answer.text]


def _status(code: int) -> str:
    try:
        return f"{code} {http.HTTPStatus(code).phrase}"
    except ValueError:
        return f"{code} Unknown"


def _text(headers: forwarding.Headers) -> list[tuple[str, str]]:
    return [(name.decode("latin-1").title(), value.decode("latin-1")) for name, value in headers]
