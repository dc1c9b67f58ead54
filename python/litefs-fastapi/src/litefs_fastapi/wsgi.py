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
from litefs_py.usecases.forwarding import Hop, Verdict

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
            primary = mount.primary()
            verdict = self.rules.verdict(primary, _has_hopped(environ))
            if verdict is Verdict.FORWARD:
                return self._forward(environ, start_response, primary, True)
            if verdict is Verdict.REFUSE:
                return _answer(start_response, failures.not_here(self.litefs.settings, primary))
        token = self.cookies.read(environ.get("HTTP_COOKIE", ""))
        try:
            # On the primary a position that is not there was lost with the primary before, and never comes.
            if token and not mount.is_primary():
                mount.wait(token, self.litefs.settings.wait_timeout)
        except WaitTimeout as error:
            log.warning("%s: served all the same: %s", environ.get("PATH_INFO"), error)
        except NodeDown:
            return _answer(start_response, failures.unavailable(self.litefs.settings))
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
                if begun or not failures.is_safe_to_repeat(error):
                    raise
                failure = error
        return self._failed(environ, start_response, failure)

    def _failed(
        self, environ: dict[str, Any], start_response: Start, failure: Exception
    ) -> Iterable[bytes]:
        """Nothing was committed. What only seemed to read can be done on the primary."""
        refused = failures.not_primary(failure)
        if (
            refused is not None
            and self.rules.may_run_twice(environ["REQUEST_METHOD"], _path(environ))
            and not forwarding.has_body(forwarding.of_environ(environ))
            and not _has_hopped(environ)
            and self.rules.url(refused.primary) is not None
        ):
            return self._forward(environ, start_response, refused.primary, False)
        return _answer(start_response, failures.of_failure(self.litefs.settings, failure))

    def _forward(
        self, environ: dict[str, Any], start_response: Start, primary: str | None, body: bool
    ) -> Iterable[bytes]:
        headers = forwarding.of_environ(environ)
        # Without a length, and where the server does not say where the body ends, there is none (PEP 3333).
        chunked = bool(environ.get("wsgi.input_terminated")) and forwarding.is_chunked(headers)
        length = forwarding.length(headers) if body else 0
        length = (None if chunked else 0) if length is None else length
        hop = Hop(
            os.uname().nodename, environ.get("REMOTE_ADDR"), environ.get("wsgi.url_scheme", "http")
        )
        url = self.rules.url(primary)
        assert url is not None
        request = forward.Outgoing(
            url, _target(environ), environ["REQUEST_METHOD"], forwarding.outward(headers, hop),
            length, self.litefs.settings.forward_timeout,
        )  # fmt: skip
        try:
            answer = forward.send(request, forward.pieces(environ["wsgi.input"], length))
        except forward.NotSent as error:
            log.warning("%s: the primary is not reached: %s", environ.get("PATH_INFO"), error)
            return _answer(start_response, failures.unavailable(self.litefs.settings))
        except forward.NoAnswer as error:
            log.error("%s: no answer from the primary: %s", environ.get("PATH_INFO"), error)
            return _answer(start_response, failures.no_answer())
        start_response(_status(answer.status), _text(answer.headers))
        return answer


def _path(environ: dict[str, Any]) -> str:
    path: str = environ.get("SCRIPT_NAME", "") + environ.get("PATH_INFO", "")
    return path.encode("latin-1", "replace").decode("utf-8", "replace")


def _target(environ: dict[str, Any]) -> bytes:
    path = environ.get("SCRIPT_NAME", "") + environ.get("PATH_INFO", "")
    query = environ.get("QUERY_STRING", "").encode("latin-1", "replace")
    return forwarding.target(quote(path.encode("latin-1", "replace")).encode(), query)


def _has_hopped(environ: dict[str, Any]) -> bool:
    return forwarding.has_hopped(forwarding.of_environ(environ))


def _answer(start_response: Start, answer: failures.Answer) -> list[bytes]:
    status, headers, text = answer
    start_response(_status(status), _text(headers))
    return [text]


def _status(code: int) -> str:
    try:
        return f"{code} {http.HTTPStatus(code).phrase}"
    except ValueError:
        return f"{code} Unknown"


def _text(headers: forwarding.Headers) -> list[tuple[str, str]]:
    return [(name.decode("latin-1").title(), value.decode("latin-1")) for name, value in headers]
