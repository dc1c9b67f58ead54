#!/usr/bin/env python3
"""Runs the steps of `make lint` and `make test`, and counts what they did; torture.py has the long ones.

Each step's output goes to target/test-logs/STEP.log. At the end: one table, the reasons of what
was skipped, and the line `N passed, N failed, N skipped`. The exit code is 1 if anything failed.
Standard library only: it runs before anything is installed.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOGS = ROOT / "target" / "test-logs"
VENV = ROOT / ".venv" / "bin"
# The workspace of the Python packages, with an environment of its own.
PYTHON = ROOT / "python"
PYTHON_TOOLS = PYTHON / ".venv" / "bin"
CARGO_DENY = ROOT / "target" / "tools" / "bin" / "cargo-deny"

# A step that says nothing for so many seconds is reported as running still.
HEARTBEAT = 30.0

# Django's own tests on a mount: the part about databases; with --all, the whole.
DJANGO_SUITE = "litefs-django/tests/suite/run.py"

PYTHON_FOLDERS = ["tests", "demo", "bench", "scripts", "packaging", "vm-tests"]


@dataclass
class Counts:
    """What a step did. A lint is one; a test run is as many as it had tests."""

    passed: int = 0
    failed: int = 0
    skipped: int = 0
    reasons: list[str] = field(default_factory=list)


@dataclass
class Step:
    """Commands, one after the other, and how to count them."""

    name: str
    commands: list[list[str]]
    count: Callable[[Path, bool], Counts]
    environment: dict[str, str] = field(default_factory=dict)
    # Why it is not run; empty: it is.
    skip: str = ""
    # Where its commands run.
    folder: Path = ROOT


def count_one(_log: Path, good: bool) -> Counts:
    return Counts(passed=1) if good else Counts(failed=1)


def count_cargo(log: Path, good: bool) -> Counts:
    """`test result:` lines. A test that prints `SKIPPED name: reason` did not do its work, and an
    ignored one is left to `make torture`."""
    text = log.read_text(errors="replace")
    counts = Counts()
    for passed, failed, ignored in re.findall(
        r"^test result: \S+ (\d+) passed; (\d+) failed; (\d+) ignored", text, re.MULTILINE
    ):
        counts.passed += int(passed)
        counts.failed += int(failed)
        counts.skipped += int(ignored)
    counts.reasons += [
        f"{name}: ignored here; make torture runs it"
        for name in re.findall(r"^test (.+?) \.\.\. ignored", text, re.MULTILINE)
    ]
    for name, reason in re.findall(r"^SKIPPED (.+?): (.+)$", text, re.MULTILINE):
        counts.passed -= 1
        counts.skipped += 1
        counts.reasons.append(f"{name}: {reason}")
    if not good and counts.failed == 0:
        counts.failed = 1
    return counts


def count_pytest(log: Path, good: bool) -> Counts:
    counts = Counts()
    report = log.with_suffix(".xml")
    if report.exists():
        for case in ElementTree.parse(report).iter("testcase"):
            skipped = case.find("skipped")
            if case.find("failure") is not None or case.find("error") is not None:
                counts.failed += 1
            elif skipped is not None:
                counts.skipped += 1
                counts.reasons.append(f"{case.get('name')}: {skipped.get('message')}")
            else:
                counts.passed += 1
    if not good and counts.failed == 0:
        counts.failed = 1
    return counts


def count_closing_line(log: Path, good: bool) -> Counts:
    """A script that ends with `N passed, N failed, N skipped` itself."""
    text = log.read_text()
    closing = re.findall(r"^(\d+) passed, (\d+) failed, (\d+) skipped$", text, re.MULTILINE)
    counts = Counts(*map(int, closing[-1])) if closing else Counts()
    for name, reason in re.findall(r"^SKIPPED (.+?): (.+)$", text, re.MULTILINE):
        counts.reasons.append(f"{name}: {reason}")
    if not good and counts.failed == 0:
        counts.failed = 1
    return counts


def git_files(*patterns: str) -> list[str]:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "--", *patterns],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return listed.stdout.split()


def lint_steps() -> list[Step]:
    python = [folder for folder in PYTHON_FOLDERS if (ROOT / folder).is_dir()]
    ruff = str(VENV / "ruff")
    steps = [
        Step("fmt", [["cargo", "fmt", "--check", "--", "--color", "never"]], count_one),
        Step("clippy", [["cargo", "clippy", "--all-targets", "--", "-D", "warnings"]], count_one),
        Step(
            "deny",
            [
                ["cargo", "fetch", "--locked"],
                [str(CARGO_DENY), "--offline", "check", "bans", "licenses", "sources"],
            ],
            count_one,
        ),
        Step("ruff check", [[ruff, "check", *python]], count_one),
        Step("ruff format", [[ruff, "format", "--check", *python]], count_one),
        Step(
            "shellcheck",
            [
                [
                    str(VENV / "shellcheck"),
                    *git_files(
                        "*.sh", ".ci/run", "packaging/deb/p*", "images/machine/*", "images/install"
                    ),
                ]
            ],
            count_one,
        ),
    ]
    # Formatting and lints of python/ with its own settings; types; who may import whom.
    steps.append(
        Step(
            "python lint",
            [
                [str(PYTHON_TOOLS / "ruff"), "check"],
                [str(PYTHON_TOOLS / "ruff"), "format", "--check"],
                [str(PYTHON_TOOLS / "mypy")],
                [str(PYTHON_TOOLS / "lint-imports")],
            ],
            count_one,
            folder=PYTHON,
        )
    )
    nix = git_files("*.nix")
    if nix:
        step = Step("nix", [["nix-instantiate", "--parse", *nix]], count_one)
        if not have("nix-instantiate"):
            step.skip = "no nix on this machine"
        steps.append(step)
        tools = ROOT / "target" / "tools" / "bin"
        looked = [
            [str(tools / "nixfmt"), "--check", *nix],
            [str(tools / "deadnix"), "--fail", *nix],
        ]
        steps.append(Step("nix lint", looked, count_one))
    return steps


def cargo_step(*options: str) -> Step:
    command = ["cargo", "test", "--locked", "--no-fail-fast", "--", "--show-output", *options]
    return Step("cargo test", [command], count_cargo)


def pytest_step(name: str, folder: str) -> Step:
    """Tests of real processes, with what `cargo test` has built."""
    command = [str(VENV / "pytest"), "-q", "-ra", f"--junitxml={LOGS / name}.xml", folder]
    program = {"LITEFS_PY": str(ROOT / "target" / "debug" / "litefs-py")}
    return Step(name, [["cargo", "build", "--locked"], command], count_pytest, program)


def python_step(name: str, *options: str) -> Step:
    """Tests of python/, the unit tests unless the options say otherwise; on real clusters with what
    `cargo test` has built."""
    command = [str(PYTHON_TOOLS / "pytest"), "-q", f"--junitxml={LOGS / name}.xml", *options]
    program = {"LITEFS_PY": str(ROOT / "target" / "debug" / "litefs-py")}
    return Step(name, [command], count_pytest, program, folder=PYTHON)


def python_script(name: str, *command: str) -> Step:
    """One of python/ that ends with its counts."""
    program = {"LITEFS_PY": str(ROOT / "target" / "debug" / "litefs-py")}
    command = (str(PYTHON_TOOLS / "python"), *command)
    return Step(name, [list(command)], count_closing_line, program, folder=PYTHON)


def model_step(name: str, *options: str) -> Step:
    """The model is a package of its own, with a lock file of its own."""
    command = ["cargo", "test", "--locked", "--manifest-path", "tests/model/Cargo.toml"]
    command += ["--target-dir", "target/model", "--", "--show-output", *options]
    return Step(name, [command], count_cargo)


STATIC = f"{os.uname().machine}-unknown-linux-musl"


def static_missing() -> str:
    """Why no static program can be built here; empty: it can."""
    if not have("musl-gcc"):
        return "no musl-gcc to build a static program with (Debian: musl-tools)"
    asked = ["rustc", "--print", "target-libdir", "--target", STATIC]
    told = subprocess.run(asked, cwd=ROOT, capture_output=True, text=True)
    if told.returncode or not Path(told.stdout.strip()).is_dir():
        return f"no {STATIC} to build for (rustup target add)"
    return ""


def package_steps(profile: str, *scenarios: str) -> list[Step]:
    """What is delivered: built, looked at, and run on machines of its own. `make test` has a program that is
    built quickly, and packages of its own folder."""
    folder = ROOT / "target" / ("packages" if profile == "dist" else f"{profile}-packages")
    environment = {
        "LITEFS_PY_STATIC": str(ROOT / "target" / STATIC / profile / "litefs-py"),
        "LITEFS_PY_PACKAGES": str(folder),
        "LITEFS_PY_PACKED": "9" if profile == "dist" else "1",
    }
    build = ["cargo", "build", "--locked", "--profile", profile, "--target", STATIC]
    static = Step("static", [build], count_one)
    looked = pytest_step("packages", "tests/packaging")
    looked.environment |= environment
    machines = Step("machines", [[sys.executable, "vm-tests/run", *scenarios]], count_closing_line)
    machines.environment = environment
    made = [[sys.executable, f"packaging/{kind}.py"] for kind in ("deb", "oci")]
    static.skip = static_missing()
    unpacked = [program for program in ("dpkg-deb", "readelf") if not have(program)]
    if static.skip or unpacked:
        made = []
        machines.skip = static.skip or f"no {unpacked[0]} to make a package with"
    # Some of them need no package.
    looked.commands = [*made, looked.commands[-1]]
    return [static, looked, machines]


def test_steps() -> list[Step]:
    return [
        *lint_steps(),
        cargo_step(),
        model_step("model"),
        pytest_step("cluster", "tests/cluster"),
        pytest_step("nemesis", "tests/torture"),
        pytest_step("programs", "tests/sqlite_programs"),
        pytest_step("security", "tests/security"),
        pytest_step("litefs", "tests/litefs"),
        pytest_step("mutants", "tests/mutants"),
        python_script("python units", "tools/versions.py"),
        python_step("python", "-m", "integration"),
        python_script("django", DJANGO_SUITE),
        *package_steps("quick", "--fast"),
    ]


def have(program: str) -> bool:
    return any(
        os.access(Path(folder) / program, os.X_OK) for folder in os.get_exec_path() if folder
    )


def run(step: Step, log: Path) -> bool:
    """Runs a step's commands into its log; says now and then that it lives."""
    environment = {**os.environ, "CARGO_TERM_COLOR": "never", **step.environment}
    with log.open("wb") as output:
        for command in step.commands:
            output.write(f"$ {' '.join(command)}\n".encode())
            output.flush()
            try:
                process = subprocess.Popen(
                    command,
                    cwd=step.folder,
                    env=environment,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                )
            except OSError as error:
                output.write(f"cannot run {command[0]}: {error}\n".encode())
                return False
            done = threading.Event()
            threading.Thread(target=heartbeat, args=(log, done), daemon=True).start()
            try:
                code = process.wait()
            finally:
                done.set()
            if code != 0:
                output.write(f"exit code {code}\n".encode())
                return False
    return True


def heartbeat(log: Path, done: threading.Event) -> None:
    while not done.wait(HEARTBEAT):
        print(f"      … {last_lines(log, 1).strip()[:90]}", flush=True)


def last_lines(log: Path, number: int) -> str:
    return "\n".join(log.read_text(errors="replace").rstrip().split("\n")[-number:])


def main() -> int:
    plans: dict[str, Callable[[], list[Step]]] = {"lint": lint_steps, "test": test_steps}
    what = "".join(sys.argv[1:])
    if what not in plans:
        sys.exit(f"usage: {sys.argv[0]} {'|'.join(plans)}")
    LOGS.mkdir(parents=True, exist_ok=True)
    for old in LOGS.iterdir():
        old.unlink()

    rows: list[tuple[str, Counts, float]] = []
    for step in plans[what]():
        print(f"{step.name:<12}", end=" ", flush=True)
        if step.skip:
            print(f"skipped: {step.skip}")
            rows.append((step.name, Counts(skipped=1, reasons=[f"{step.name}: {step.skip}"]), 0.0))
            continue
        log = LOGS / f"{step.name.replace(' ', '-')}.log"
        began = time.monotonic()
        print("…", flush=True)
        good = run(step, log)
        seconds = time.monotonic() - began
        counts = step.count(log, good)
        rows.append((step.name, counts, seconds))
        if counts.failed:
            print(f"{step.name:<12} FAILED after {seconds:.0f} s; the end of {log}:")
            print(last_lines(log, 40))
        else:
            print(f"{step.name:<12} passed, {seconds:.0f} s", flush=True)
    return report(rows)


def report(rows: list[tuple[str, Counts, float]]) -> int:
    total = Counts()
    print(f"\n{'step':<14} {'passed':>7} {'failed':>7} {'skipped':>8} {'seconds':>8}")
    for name, counts, seconds in rows:
        print(
            f"{name:<14} {counts.passed:>7} {counts.failed:>7} {counts.skipped:>8} {seconds:>8.1f}"
        )
        total.passed += counts.passed
        total.failed += counts.failed
        total.skipped += counts.skipped
        total.reasons += counts.reasons
    for reason in total.reasons:
        print(f"skipped  {reason}")
    print(f"\n{total.passed} passed, {total.failed} failed, {total.skipped} skipped")
    return 1 if total.failed else 0


if __name__ == "__main__":
    sys.exit(main())
