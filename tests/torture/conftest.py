"""Short rounds of the torture, for `make test`; the long ones are run by `run.py` itself.

pytest tests/torture            needs root, /dev/fuse, ip, nft, sqlite3, openssl
LITEFS_PY=/path/to/litefs-py    another program
"""

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "cluster")]

from cluster_fixtures import pytest_terminal_summary  # noqa: E402, F401
