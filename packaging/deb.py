#!/usr/bin/env python3
"""Makes the Debian package of the static program, by dpkg-deb: target/packages/litefs-py_VERSION_ARCH.deb.

    packaging/deb.py [--version 0.1.0] [--revision 1]     wants dpkg-deb, readelf
    LITEFS_PY_STATIC=/path packaging/deb.py               of another program than `make static` builds

Standard library only.
"""

import argparse
import gzip
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from common import (
    BUILT,
    LEVEL,
    ROOT,
    architecture,
    made_whole,
    named,
    static_program,
    time_of_the_source,
    version,
)

HERE = Path(__file__).resolve().parent
SCRIPTS = ["postinst", "prerm", "postrm"]
COMPLETIONS = {
    "bash": "usr/share/bash-completion/completions/litefs-py",
    "zsh": "usr/share/zsh/vendor-completions/_litefs-py",
    "fish": "usr/share/fish/vendor_completions.d/litefs-py.fish",
}
# Files of the administrator's: an upgrade keeps what was changed in them.
CONFFILES = {"etc/default/litefs-py": HERE / "deb" / "default"}


def install(source, root, path, mode=0o644):
    target = root / path
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)
    target.chmod(mode)


def compressed(data, root, path):
    target = root / path
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(gzip.compress(data, mtime=0))


def write_manual(program, root):
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([program, "man", folder], check=True, stdout=subprocess.DEVNULL)
        for page in sorted(Path(folder).iterdir()):
            compressed(page.read_bytes(), root, f"usr/share/man/man1/{page.name}.gz")


def write_completions(program, root):
    for shell, path in COMPLETIONS.items():
        text = subprocess.run([program, "completions", shell], check=True, capture_output=True)
        target = root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(text.stdout)


def write_documents(root, full_version):
    folder = "usr/share/doc/litefs-py"
    install(ROOT / "LICENSE", root, f"{folder}/copyright")
    compressed((ROOT / "CHANGELOG.md").read_bytes(), root, f"{folder}/changelog.gz")
    install(ROOT / "README.md", root, f"{folder}/README.md")
    for page in sorted((ROOT / "docs").glob("*.md")):
        install(page, root, f"{folder}/docs/{page.name}")


def write_control(root, full_version):
    control = root / "DEBIAN"
    control.mkdir()
    size = sum(f.stat().st_size for f in root.rglob("*") if f.is_file())
    text = (HERE / "deb" / "control").read_text()
    facts = {"VERSION": full_version, "ARCHITECTURE": architecture(), "SIZE": str(size // 1024)}
    for name, value in facts.items():
        text = text.replace(f"@{name}@", value)
    (control / "control").write_text(text)
    (control / "conffiles").write_text("".join(f"/{path}\n" for path in CONFFILES))
    for script in SCRIPTS:
        install(HERE / "deb" / script, root, f"DEBIAN/{script}", 0o755)


def fill(root, full_version):
    program = static_program()
    install(program, root, "usr/bin/litefs-py", 0o755)
    for unit in ("litefs-py.service", "litefs-py.target"):
        install(HERE / unit, root, f"usr/lib/systemd/system/{unit}")
    install(HERE / "litefs-py.sysusers", root, "usr/lib/sysusers.d/litefs-py.conf")
    for path, source in CONFFILES.items():
        install(source, root, path)
    write_manual(program, root)
    write_completions(program, root)
    write_documents(root, full_version)
    write_control(root, full_version)


def settle(root, seconds):
    """One mode for all folders, one time for everything."""
    root.chmod(0o755)
    for path in [*root.rglob("*"), root]:
        if path.is_dir():
            path.chmod(0o755)
        os.utime(path, (seconds, seconds))


def make(upstream, revision):
    full_version = f"{upstream}-{revision}"
    seconds = time_of_the_source()
    package = BUILT / f"litefs-py_{full_version}_{architecture()}.deb"
    with tempfile.TemporaryDirectory() as folder, made_whole(package) as part:
        root = Path(folder)
        fill(root, full_version)
        settle(root, seconds)
        subprocess.run(
            ["dpkg-deb", "--root-owner-group", "-Zxz", f"-z{LEVEL}", "--build", root, part],
            check=True,
            stdout=subprocess.DEVNULL,
            env={**os.environ, "SOURCE_DATE_EPOCH": str(seconds)},
        )
    return package


def main():
    arguments = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    arguments.add_argument(
        "--version", default=version(), help="the program's, as the package says it"
    )
    arguments.add_argument("--revision", default="1", help="Debian's part of the version")
    wanted = arguments.parse_args()
    package = make(wanted.version, wanted.revision)
    print(f"{named(package)}  {package.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
