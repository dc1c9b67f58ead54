#!/usr/bin/env python3
"""Breaks the code on purpose, one patch of tests/mutants after the other, and looks whether the test
that the patch names sees it.

    scripts/mutants.py                 all of them
    scripts/mutants.py no-lost-ack     those of a promise; or "Rule 6" (or only 6), or a patch's name
    scripts/mutants.py --part 1/2      the first half: each stays under 40 minutes
    scripts/mutants.py --list          what there is, and runs nothing
    scripts/mutants.py --table         the same as tests/mutants/README.md has it

Works in a copy of the tree, target/mutants/tree, never in the tree itself. First the named tests run on
the code as it is, and must pass; then each patch is applied, the code must still compile, and the test
must fail. What was caught on this very code, by this very patch and test, is kept in
target/mutants/results.json and not run again. Standard library only.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from steps import ROOT, git_files

PATCHES = ROOT / "tests" / "mutants"
PLACE = ROOT / "target" / "mutants"
TREE = PLACE / "tree"
RESULTS = PLACE / "results.json"
# The longest that one test may take, seconds; hanging counts as failing where a promise is about time.
LONG = 300
# Tests of several nodes may fail on a busy machine alone. One that passes unbroken in one of three runs can
# judge, and it has caught a mutant when it failed twice.
OF_SEVERAL_NODES = {"raft_cluster", "write_path", "cluster", "litefs"}
# Folders of tests in Python, by the first of which they are named; the others they use.
PYTHON = {
    "cluster": ["tests/cluster"],
    "litefs": ["tests/litefs", "tests/cluster", "tests/torture"],
}
UNBROKEN, BROKEN = 3, 2
# The crate is built anew for each patch, so quickly; its dependencies are built as ever.
QUICK = [
    "--config=profile.dev.package.litefs-py.opt-level=0",
    "--config=profile.dev.package.litefs-py.debug=false",
]
PROMISES = [
    "no-lost-ack",
    "one-history",
    "invisible-until-committed",
    "one-primary",
    "caught-up",
    "nothing-discarded",
    "bounded-answer",
    "readers-go-on",
    "converges",
    "no-open-door",
]
RULES = [f"Rule {number}" for number in range(1, 21)]
HEAD = """\
# Mutants

Each of these patches breaks one promise or rule of the design in one place; the test beside it must
then fail, and does. `scripts/mutants.py` applies, builds and runs them. This file is what
`scripts/mutants.py --table` writes.

"""


@dataclass(frozen=True)
class Mutant:
    """A patch, and what its first lines say."""

    name: str
    keeps: tuple[str, ...]
    what: str
    # `lib FILTER`, or a test of tests/ with its arguments (`write_path FILTER`), or `cluster FILE[::TEST]` of
    # tests/cluster, or `litefs FILE[::TEST]` of tests/litefs, which is skipped where there is no LiteFS.
    test: str

    @property
    def patch(self) -> Path:
        return PATCHES / f"{self.name}.patch"

    @property
    def target(self) -> str:
        return self.test.split()[0]

    @property
    def about(self) -> str:
        return f"{self.name} ({', '.join(self.keeps)}): {self.what} [{self.test}]"


def read(path: Path) -> Mutant:
    said: dict[str, str] = {}
    for line in path.read_text().splitlines():
        if line.startswith("--- "):
            break
        key, colon, value = line.partition(":")
        if colon:
            said[key.strip()] = value.strip()
    missing = {"keeps", "what", "test"} - said.keys()
    if missing:
        sys.exit(f"{path}: its first lines do not say {', '.join(sorted(missing))}")
    keeps = tuple(part.strip() for part in said["keeps"].split(","))
    return Mutant(path.stem, keeps, said["what"], said["test"])


def in_order(mutant: Mutant) -> tuple[int, str, str]:
    """Those with the same test program one after the other, and the cheap ones first."""
    first = {"lib": 0, "cluster": 2, "litefs": 3}
    return first.get(mutant.target, 1), mutant.test, mutant.name


def all_mutants() -> list[Mutant]:
    return sorted(map(read, PATCHES.glob("*.patch")), key=in_order)


def applies(mutant: Mutant, tree: Path, *options: str) -> str:
    """Applies the patch; empty: it could be. Else what patch(1) says."""
    patch = ["patch", "-p1", "-F2", "--force", "--no-backup-if-mismatch", "--reject-file=-"]
    done = subprocess.run(
        [*patch, "--directory", str(tree), "--input", str(mutant.patch), *options],
        capture_output=True,
        text=True,
        check=False,
    )
    return "" if done.returncode == 0 else done.stdout + done.stderr


def table(mutants: list[Mutant]) -> str:
    rows = [
        (kept, mutant)
        for kept in [*PROMISES, *RULES]
        for mutant in sorted(mutants, key=lambda mutant: mutant.name)
        if kept in mutant.keeps
    ]
    lines = ["| promise or rule | what is broken | caught by |", "|---|---|---|"]
    lines += [f"| {kept} | {mutant.what} | {shown(mutant.test)} |" for kept, mutant in rows]
    return "\n".join(lines) + "\n"


def shown(test: str) -> str:
    target, _, rest = test.partition(" ")
    if target == "litefs":
        return f"`litefs/{rest}`"
    return f"`{rest}`" if target in ("lib", "cluster") else f"`{target}` {rest}"


# ---- running a test ---------------------------------------------------------------------------


def command(test: str) -> list[str]:
    target, *arguments = test.split()
    if target in PYTHON:
        tests = [f"tests/{target}/{argument}" for argument in arguments]
        return [str(ROOT / ".venv/bin/pytest"), "-q", "-x", *tests]
    which = ["--lib"] if target == "lib" else ["--test", target]
    # A program of its own understands its own options only.
    shows = [] if any(argument.startswith("-") for argument in arguments) else ["--show-output"]
    return ["cargo", *QUICK, "test", "--locked", *which, "--", *shows, *arguments]


def build(test: str) -> list[str]:
    target = test.split()[0]
    if target in PYTHON:
        return ["cargo", *QUICK, "build", "--locked"]
    which = ["--lib"] if target == "lib" else ["--test", target]
    return ["cargo", *QUICK, "test", "--locked", "--no-run", *which]


def run(arguments: list[str], limit: float) -> tuple[bool, str]:
    """Whether it ended well, and what it wrote. In a mount namespace of its own, where there may be
    such: what a broken daemon leaves mounted goes with it."""
    if os.geteuid() == 0 and shutil.which("unshare"):
        arguments = ["unshare", "--mount", "--propagation", "private", "--", *arguments]
    with tempfile.TemporaryDirectory(prefix="mutants-", ignore_cleanup_errors=True) as temporary:
        environment = {
            **os.environ,
            "CARGO_TARGET_DIR": str(PLACE / "target"),
            "LITEFS_PY": str(PLACE / "target/debug/litefs-py"),
            "CARGO_TERM_COLOR": "never",
            "TMPDIR": temporary,
        }
        process = subprocess.Popen(
            arguments,
            cwd=TREE,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        try:
            output, _ = process.communicate(timeout=limit)
            return process.returncode == 0, output
        except subprocess.TimeoutExpired:
            return False, f"no end after {limit:.0f} s"
        finally:
            end(process)


def end(process: subprocess.Popen[str]) -> None:
    """Nothing of it stays, also when this script is interrupted: first as by Ctrl-C, so that it tidies
    up, then by force."""
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            pass
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    process.wait(30)


def ran_something(output: str) -> bool:
    """A filter that fits no test passes, and proves nothing."""
    return bool(re.search(r"\b[1-9]\d* passed", output))


def why_skipped(output: str) -> str:
    """What this machine lacks for the test; empty: nothing."""
    said = re.search(r"^SKIPPED \S+ (.+)$", output, re.MULTILINE)
    return said[1] if said else ""


# ---- the tree to be broken --------------------------------------------------------------------


def copy_tree() -> None:
    """The files of the work tree as they are now. One that is as it should be is left alone; another
    is written as of now, for cargo goes by the time."""
    names = {name for name in git_files() if (ROOT / name).is_file()}
    for name in names:
        source, target = ROOT / name, TREE / name
        if not target.is_file() or target.read_bytes() != source.read_bytes():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)
            shutil.copymode(source, target)
    for path in sorted(TREE.rglob("*"), reverse=True):
        if path.is_dir() and not any(path.iterdir()):
            path.rmdir()
        elif path.is_file() and str(path.relative_to(TREE)) not in names:
            path.unlink()


def copy_dependencies() -> None:
    """What was built of them already, without this crate's own."""
    built, here = ROOT / "target" / "debug", PLACE / "target" / "debug"
    if here.exists() or not built.is_dir():
        return

    def own(_folder: str, names: list[str]) -> list[str]:
        crate = re.compile(r"(lib)?litefs[-_]py")
        # Test programs have no dot in their names.
        return [
            name
            for name in names
            if crate.match(name) or (_folder.endswith("deps") and "." not in name)
        ]

    for part in ("deps", "build", ".fingerprint"):
        shutil.copytree(built / part, here / part, symlinks=True, ignore=own)


def digest(*paths: Path) -> str:
    total = hashlib.sha256()
    for path in paths:
        total.update(str(path.relative_to(ROOT)).encode() + b"\0")
        total.update(hashlib.sha256(path.read_bytes()).digest())
    return total.hexdigest()


def test_files(target: str) -> Iterator[Path]:
    if target == "lib":
        return
    for name in git_files(*PYTHON.get(target, ["tests"])):
        parts = Path(name).parts
        if target in PYTHON or parts[1] in (target, f"{target}.rs", "common"):
            yield ROOT / name


class Results:
    """What was seen to pass, or to be caught, by name and by the digest of all that it depends on."""

    def __init__(self) -> None:
        self.known: dict[str, dict[str, object]] = {}
        if RESULTS.exists():
            self.known = json.loads(RESULTS.read_text())
        sources = git_files("src", "stand-in", "Cargo.toml", "Cargo.lock", "rust-toolchain.toml")
        self.source = digest(*(ROOT / name for name in sources if (ROOT / name).is_file()))

    def key(self, test: str, *more: Path) -> str:
        files = sorted(path for path in test_files(test.split()[0]) if path.is_file())
        return hashlib.sha256(f"{self.source} {test} {digest(*more, *files)}".encode()).hexdigest()

    def has(self, name: str, key: str) -> bool:
        return self.known.get(name, {}).get("key") == key

    def keep(self, name: str, key: str, seconds: float) -> None:
        self.known[name] = {"key": key, "seconds": round(seconds, 1)}
        fresh = RESULTS.with_suffix(".new")
        fresh.write_text(json.dumps(self.known, indent=1, sort_keys=True) + "\n")
        fresh.replace(RESULTS)


# ---- all of it --------------------------------------------------------------------------------


def passes_unbroken(test: str, key: str, results: Results) -> tuple[str, str]:
    """Why the test cannot judge mutants (empty: it can), and why it is skipped."""
    name = f"unbroken: {test}"
    if results.has(name, key):
        return "", ""
    began = time.monotonic()
    good, output = run(build(test), LONG * 4)
    if good:
        good, output = passes_once(test, UNBROKEN)
    if skipped := why_skipped(output):
        return "", skipped
    if not good or not ran_something(output):
        return "\n".join(output.splitlines()[-40:]), ""
    results.keep(name, key, time.monotonic() - began)
    return "", ""


def passes_once(test: str, runs: int) -> tuple[bool, str]:
    """Whether the test, which is built, passes in one of its runs; and what the last one wrote."""
    good, output = run(command(test), LONG)
    if not good and runs > 1 and test.split()[0] in OF_SEVERAL_NODES:
        return passes_once(test, runs - 1)
    return good, output


def try_mutant(mutant: Mutant) -> str:
    """Empty: it was caught. Else why not."""
    files = re.findall(r"^--- a/(\S+)", mutant.patch.read_text(), re.MULTILINE)
    whole = {TREE / name: (TREE / name).read_bytes() for name in files}
    try:
        if why := applies(mutant, TREE):
            return f"the patch does not apply any more:\n{why}"
        good, output = run(build(mutant.test), LONG * 4)
        if not good:
            return "it does not compile:\n" + "\n".join(output.splitlines()[-20:])
        good, output = passes_once(mutant.test, BROKEN)
        (PLACE / f"{mutant.name}.log").write_text(output)
        return f"{mutant.test} passes all the same" if good else ""
    finally:
        for path, content in whole.items():
            path.write_bytes(content)


def chosen(arguments: argparse.Namespace) -> list[Mutant]:
    mutants = all_mutants()
    wanted = {f"Rule {name}" if name.isdigit() else name for name in arguments.names}
    known = {name for mutant in mutants for name in (mutant.name, *mutant.keeps)}
    if wanted - known:
        sys.exit(f"no mutant is called, or keeps: {', '.join(sorted(wanted - known))}")
    if wanted:
        mutants = [mutant for mutant in mutants if wanted & {mutant.name, *mutant.keeps}]
    if arguments.part:
        part, of = map(int, arguments.part.split("/"))
        mutants = mutants[len(mutants) * (part - 1) // of : len(mutants) * part // of]
    return mutants


def try_all(mutants: list[Mutant], results: Results) -> dict[str, int]:
    """Those of one test program one after the other; before the first, its tests on the code as it is."""
    counts = {"caught": 0, "missed": 0, "skipped": 0}
    # Of what was copied: the work tree may change while this runs.
    keys = {mutant: results.key(mutant.test, mutant.patch) for mutant in mutants}
    unbroken_keys = {mutant.test: results.key(mutant.test) for mutant in mutants}
    for _target, together in itertools.groupby(mutants, key=lambda mutant: mutant.target):
        waiting = []
        for mutant in together:
            if results.has(mutant.name, keys[mutant]):
                counts["caught"] += 1
                print(f"caught before   {mutant.about}", flush=True)
            else:
                waiting.append(mutant)
        tests = dict.fromkeys(mutant.test for mutant in waiting)
        unbroken = {test: passes_unbroken(test, unbroken_keys[test], results) for test in tests}
        for mutant in waiting:
            why, skipped = unbroken[mutant.test]
            began = time.monotonic()
            if skipped:
                counts["skipped"] += 1
                print(f"SKIPPED {mutant.name}: {skipped}", flush=True)
                continue
            why = f"it fails on the code as it is:\n{why}" if why else try_mutant(mutant)
            seconds = time.monotonic() - began
            if why:
                counts["missed"] += 1
                print(f"NOT CAUGHT      {mutant.about}: {why}", flush=True)
            else:
                counts["caught"] += 1
                results.keep(mutant.name, keys[mutant], seconds)
                print(f"caught {seconds:6.0f} s {mutant.about}", flush=True)
    return counts


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("names", nargs="*", help="patches, promises or rules; none: all")
    parser.add_argument("--part", help="such as 1/2: the first half")
    parser.add_argument("--list", action="store_true", help="lists them, and runs nothing")
    parser.add_argument("--table", action="store_true", help="writes the table for people")
    arguments = parser.parse_args()
    mutants = chosen(arguments)
    if arguments.table:
        print(HEAD + table(mutants), end="")
        return 0
    if arguments.list:
        print("\n".join(mutant.about for mutant in mutants))
        return 0

    # However it is stopped, also from a shell's background: what it started ends, the tree is whole.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    PLACE.mkdir(parents=True, exist_ok=True)
    copy_dependencies()
    copy_tree()
    began = time.monotonic()
    counts = try_all(mutants, Results())
    print(f"\n{len(mutants)} mutants in {time.monotonic() - began:.0f} s")
    print("{caught} passed, {missed} failed, {skipped} skipped".format(**counts))
    return 1 if counts["missed"] else 0


if __name__ == "__main__":
    sys.exit(main())
