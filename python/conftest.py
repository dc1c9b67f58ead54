"""The folder says which kind a test is."""

import http.server
import threading
from pathlib import Path

import pytest
from litefs_py.adapters.mount import Mount


def pytest_collection_modifyitems(items):
    """Marks each test."""
    for item in items:
        kind = "integration" if "integration" in Path(item.fspath).parts else "unit"
        item.add_marker(getattr(pytest.mark, kind))
        if "hypothesis" in getattr(item, "keywords", {}) or getattr(
            getattr(item, "obj", None), "is_hypothesis_test", False
        ):
            item.add_marker(pytest.mark.property)


class PlayedMount(Mount):
    """A folder that looks like the mount of LiteFS. Nothing is mounted there, and no node answers."""

    def __init__(self, folder):
        super().__init__(folder, f"unix:{folder}/none.sock")
        (folder / ".lag").write_text("+000000000\n")
        self.marker = folder / ".primary"

    def require(self):
        """As of something that is mounted."""
        return self.device()


@pytest.fixture
def litefs_mount(tmp_path):
    """Of a node where only the primary may write."""
    return PlayedMount(tmp_path)


@pytest.fixture
def serve_primary():
    """Serves the application on the primary, by this handler; `got` and `end` are for it."""
    servers = []

    def serve(handler):
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        server.got, server.end = [], threading.Event()
        # Who hangs up is meant to.
        server.handle_error = lambda *_: None
        server.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        servers.append((server, thread))
        return server

    yield serve
    for server, thread in servers:
        server.end.set()
        server.shutdown()
        thread.join()
        server.server_close()
