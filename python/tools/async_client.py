#!/usr/bin/env python3
"""Makes `async_client.py` of `client.py`: the same methods, awaited. A test holds both together.

uv run tools/async_client.py
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

HTTP = Path(__file__).resolve().parent.parent / "litefs-py/src/litefs_py/adapters/http"

METHODS = [
    "health",
    "databases",
    "node_status",
    "barrier",
    "position",
    "token",
    "wait",
    "status",
    "switchover",
    "check",
    "history",
    "ask",
    "_send",
    "close",
    "__enter__",
    "__exit__",
]
WORDS = {
    '"""The client that waits."""': '"""The client that awaits. Made of `client.py` by tools/async_client.py."""',
    "import os\nimport ssl\nimport threading\n": "import asyncio\nimport os\nimport ssl\n",
    'DEFAULT_ENDPOINT = "http://127.0.0.1:8008"\n\n\n': "\n",
    "import calls, wire\n": "import calls, wire\nfrom litefs_py.adapters.http.client import DEFAULT_ENDPOINT\n",
    "May be used by several threads; a forked child\n    makes connections of its own.": (
        "For one event loop at a time; a forked\n    child makes connections of its own."
    ),
    "class Client:": "class AsyncClient:",
    "-> Client:": "-> AsyncClient:",
    "httpx.HTTPTransport": "httpx.AsyncHTTPTransport",
    "wire.transport(": "wire.async_transport(",
    "self._lock = threading.Lock()": "self._loop: asyncio.AbstractEventLoop | None = None",
    "__enter__": "__aenter__",
    "__exit__": "__aexit__",
    "return self.ask(": "return await self.ask(",
    "self.node_status()": "await self.node_status()",
    "in self.databases()": "in await self.databases()",
    "time.sleep(": "await asyncio.sleep(",
    "plan.send(self._send(": "plan.send(await self._send(",
    ".handle_request(": ".handle_async_request(",
    "response = self._transport(": "response = await self._transport(",
    "response.read()": "await response.aread()",
    "response.close()": "await response.aclose()",
    "transport.close()": "await transport.aclose()",
    "        self.close()": "        await self.close()",
}
TRANSPORT = """    def _transport(self, number: int) -> httpx.AsyncHTTPTransport:
        loop = asyncio.get_running_loop()
        if self._loop is not loop or self._process != os.getpid():
            # Connections belong to the loop, and to the process, that made them.
            self._transports, self._loop, self._process = {}, loop, os.getpid()
        if number not in self._transports:
            self._transports[number] = wire.async_transport(self._endpoints[number], self._tls)
        return self._transports[number]

"""
CLOSE = "transports, self._transports = self._transports, {}\n"


def awaited(source: str) -> str:
    """The text of the client that awaits."""
    for method in METHODS:
        source = source.replace(f"    def {method}(", f"    async def {method}(")
    for old, new in WORDS.items():
        if old not in source:
            raise SystemExit(f"client.py has no {old!r} any more")
        source = source.replace(old, new)
    source = re.sub(
        r"    def _transport.*?(?=    async def close)",
        lambda _: TRANSPORT,
        source,
        flags=re.DOTALL,
    )
    source = source.replace(f"        with self._lock:\n            {CLOSE}", f"        {CLOSE}")
    return formatted(source, HTTP / "async_client.py")


def formatted(source: str, path: Path) -> str:
    """As the formatter lays it out."""
    ruff = Path(sys.executable).with_name("ruff")
    command = [str(ruff), "format", "--stdin-filename", str(path), "-"]
    done = subprocess.run(command, input=source, capture_output=True, text=True, check=True)
    return done.stdout


if __name__ == "__main__":
    target = HTTP / "async_client.py"
    target.write_text(awaited((HTTP / "client.py").read_text()))
    print(f"wrote {target}")
