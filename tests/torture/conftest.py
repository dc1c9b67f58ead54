"""Short rounds of the torture, for `make test`; the long ones are run by `run.py` itself.

pytest tests/torture            needs root, /dev/fuse, ip, nft, sqlite3, openssl
LITEFS_PY=/path/to/litefs-py    another program
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))


def pytest_terminal_summary(terminalreporter):
    """Says why something was skipped, also without -rs."""
    for report in terminalreporter.stats.get("skipped", []):
        terminalreporter.write_line(f"SKIPPED {report.nodeid}: {report.longrepr[2]}")
