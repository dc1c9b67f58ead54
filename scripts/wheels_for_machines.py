#!/usr/bin/env python3
"""Makes the wheels of litefs-py and litefs-django, and installs them with Django into target/site, for the Python of
the machines of vm-tests. Standard library only; wants python/.venv and .venv.
"""

import os
import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SITE, WHEELS = ROOT / "target" / "site", ROOT / "target" / "site-wheels"
# Debian 12's.
PYTHON = "3.11"
DJANGO = "django>=5.2,<5.3"


def main():
    for folder in (SITE, WHEELS):
        shutil.rmtree(folder, ignore_errors=True)
    program = os.environ["LITEFS_PY_STATIC"]
    for package in ("litefs-py", "litefs-django"):
        build = [
            ROOT / "python/.venv/bin/python",
            "-m",
            "hatchling",
            "build",
            "-t",
            "wheel",
            "-d",
            WHEELS,
        ]
        environment = {**os.environ, "LITEFS_PY_BINARY": program}
        subprocess.run(build, cwd=ROOT / "python" / package, check=True, env=environment)
    install = [
        ROOT / ".venv/bin/python",
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
    ]
    place = ["--target", SITE, "--python-version", PYTHON, "--only-binary=:all:"]
    subprocess.run([*install, *place, DJANGO, *WHEELS.glob("*.whl")], check=True)


if __name__ == "__main__":
    main()
