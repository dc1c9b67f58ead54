"""Fixtures of the cluster tests: real daemons, real mounts, stock SQLite clients.

    pytest tests/cluster            needs root, /dev/fuse and target/debug/litefs-py (cargo build)
    LITEFS_PY=/path/to/litefs-py    another program
    LITEFS_PY_SLOW=1                the slow ones too (make torture)

A cluster serves the tests of one file, which run in their order; after each test everything that it
killed or paused is brought back. No mount and no process stays, however a test ends.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from cluster_fixtures import (  # noqa: E402, F401
    cluster,
    db,
    make_cluster,
    measured,
    pytest_collection_modifyitems,
    pytest_configure,
    pytest_terminal_summary,
    settings,
    shared_cluster,
)
