"""Where the sources come from, and how SQLite's own programs are built of them.

The programs are of Debian's source package of SQLite, got by apt; the library is of three versions:
Debian's, the one that the daemon's crate bundles (the newest), and one from before 3.35, of an old
version of that crate, got by cargo. All of it lies below target/sqlite-programs, is made once, and is
never committed. What cannot be had raises `Missing`, which says why.
"""

import json
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "target" / "sqlite-programs"
CLIENT = Path(__file__).with_name("client.c")

# Of libsqlite3-sys; it bundles SQLite 3.33.0.
OLD_CRATE = "0.20.1"

# What Debian's configure finds out, and the crates do not say: without HAVE_USLEEP every sleep of
# SQLite is a whole second.
FLAGS = (
    "-O1 -w -DSQLITE_THREADSAFE=1 -DHAVE_USLEEP=1 -DHAVE_FDATASYNC=1 -DSQLITE_ENABLE_RTREE"
).split()

# threadtest3 has its times in its source; this makes them a part of that.
SHORTER = ("aTest[i].xTest(aTest[i].nMs);", "aTest[i].xTest(aTest[i].nMs*atoi(getenv(\"PERCENT\"))/100);")  # fmt: skip


class Missing(Exception):
    """This machine, or its package sources, lack something. The text says what."""


@dataclass(frozen=True)
class Version:
    """One SQLite, and the programs linked with it."""

    name: str
    number: str
    folder: Path

    def program(self, name: str) -> Path:
        return self.folder / name


def command(*arguments, cwd=None, what="", error: type[Exception] = Missing) -> str:
    """Its output; or `error`, if it fails."""
    arguments = [str(argument) for argument in arguments]
    if shutil.which(arguments[0]) is None:
        raise Missing(f"there is no {arguments[0]}")
    done = subprocess.run(
        arguments,
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=900,
        env={**os.environ, "CARGO_TARGET_DIR": str(FOLDER / "cargo")},
    )
    if done.returncode:
        last = (done.stderr.strip() or done.stdout.strip()).splitlines()[-1:]
        raise error(f"{what or ' '.join(arguments)} failed: {' '.join(last)}")
    return done.stdout


def compiled(*arguments, **options) -> None:
    """With the tools there, a failure to build what was got is a fault of the test, and no reason to
    skip it."""
    command(*arguments, error=AssertionError, **options)


def made_once(folder: Path, make) -> Path:
    """`make` fills a folder beside, which gets this name when it is complete."""
    if not folder.exists():
        rough = folder.with_name(folder.name + ".rough")
        shutil.rmtree(rough, ignore_errors=True)
        rough.mkdir(parents=True)
        make(rough)
        rough.rename(folder)
    return folder


@cache
def debian_source() -> Path:
    """Debian's source package of sqlite3, unpacked and patched, with the amalgamation made."""
    return made_once(FOLDER / "debian", get_debian_source)


def get_debian_source(folder: Path) -> None:
    if not Path("/etc/apt").is_dir():
        raise Missing("no apt on this machine: the programs are of Debian's source package")
    apt = folder / "apt"
    (apt / "lists" / "partial").mkdir(parents=True)
    options = [
        f"-oDir::Etc::sourcelist={apt}/none",
        f"-oDir::Etc::sourceparts={apt}/sources",
        f"-oDir::State::lists={apt}/lists",
        "-oAPT::Sandbox::User=root",
    ]
    write_sources(apt / "sources")
    command("apt-get", "-q", *options, "update", what="apt-get update, of the sources")
    command(
        "apt-get", "-q", *options, "source", "--download-only", "sqlite3",
        cwd=apt, what="apt-get source sqlite3",
    )  # fmt: skip
    descriptions = list(apt.glob("*.dsc"))
    if len(descriptions) != 1:
        raise Missing(f"apt-get source brought {len(descriptions)} packages")
    source = folder / "source"
    command("dpkg-source", "--no-check", "-x", descriptions[0], source)
    if shutil.which("tclsh") is None:
        raise Missing("there is no tclsh, which SQLite's build makes the amalgamation with")
    compiled(source / "configure", "-q", "--disable-tcl", cwd=source)
    compiled("make", "-s", "sqlite3.c", cwd=source)
    shutil.rmtree(apt)


def write_sources(folder: Path) -> None:
    """The machine's package sources, for source packages; its own configuration stays as it is."""
    folder.mkdir()
    parts = Path("/etc/apt/sources.list.d")
    for file in [Path("/etc/apt/sources.list"), *parts.glob("*.list"), *parts.glob("*.sources")]:
        if not file.exists():
            continue
        text = file.read_text(errors="replace")
        if file.suffix == ".sources":
            text = re.sub(r"^Types:.*$", "Types: deb-src", text, flags=re.MULTILINE)
        else:
            text = re.sub(r"^deb(-src)?\s", "deb-src ", text, flags=re.MULTILINE)
        if "debian" in text:
            (folder / file.name).write_text(text)


def crate_sqlite(manifest: Path) -> Path:
    """The amalgamation in the libsqlite3-sys that this manifest leads to."""
    metadata = json.loads(
        command("cargo", "metadata", "--format-version=1", f"--manifest-path={manifest}")
    )
    found = [p["manifest_path"] for p in metadata["packages"] if p["name"] == "libsqlite3-sys"]
    if len(found) != 1 or not (folder := Path(found[0]).parent / "sqlite3").is_dir():
        raise Missing(f"{manifest} leads to {len(found)} libsqlite3-sys with a SQLite in it")
    return folder


def old_manifest() -> Path:
    """Of a package that is there for its dependency only."""
    folder = FOLDER / "old-crate"
    (folder / "src").mkdir(parents=True, exist_ok=True)
    (folder / "src" / "lib.rs").write_text("")
    manifest = folder / "Cargo.toml"
    manifest.write_text(
        '[package]\nname = "old-sqlite"\nversion = "0.0.0"\nedition = "2021"\n\n[workspace]\n\n'
        f'[dependencies]\nlibsqlite3-sys = "={OLD_CRATE}"\n'
    )
    return manifest


def amalgamation(name: str) -> Path:
    """The folder with sqlite3.c and sqlite3.h."""
    if name == "debian":
        return debian_source() / "source"
    return crate_sqlite(ROOT / "Cargo.toml" if name == "newest" else old_manifest())


@cache
def version(name: str) -> Version:
    """`debian`, `newest` or `old`, with all programs built."""
    source, sqlite = debian_source() / "source", amalgamation(name)
    number = re.search(r'define SQLITE_VERSION\s+"([\d.]+)"', (sqlite / "sqlite3.h").read_text())
    if number is None:
        raise Missing(f"{sqlite}/sqlite3.h names no version")

    def make(folder: Path) -> None:
        build(folder, source, sqlite)

    # A build by other means is another one.
    made = f"{name}-{number[1]}-{abs(hash_of(Path(__file__), CLIENT)) % 10**8}"
    return Version(name, number[1], made_once(FOLDER / made, make))


def hash_of(*files: Path) -> int:
    import zlib

    return zlib.crc32(b"".join(file.read_bytes() for file in files))


def build(folder: Path, source: Path, sqlite: Path) -> None:
    library = folder / "sqlite3.o"
    compiler = ["cc", *FLAGS, f"-I{sqlite}"]
    compiled(*compiler, "-c", sqlite / "sqlite3.c", "-o", library)
    threadtest = (source / "test" / "threadtest3.c").read_text()
    if SHORTER[0] not in threadtest:
        raise AssertionError("this threadtest3 is not the one that is known here")
    (folder / "threadtest3.c").write_text("#include <stdlib.h>\n" + threadtest.replace(*SHORTER))
    programs = {
        "mptester": [source / "mptest" / "mptest.c"],
        "speedtest1": [source / "test" / "speedtest1.c"],
        "kvtest": [source / "test" / "kvtest.c"],
        "threadtest3": [folder / "threadtest3.c", source / "src" / "test_multiplex.c"],
        "client": [CLIENT],
    }
    includes = [f"-I{source}/src", f"-I{source}/test"]
    for name, files in programs.items():
        libraries = ["-lm", "-lpthread", "-ldl"]
        compiled(*compiler, *includes, *files, library, "-o", folder / name, *libraries)
