#!/usr/bin/env python3
"""Runs the parts of `make torture`, and joins what they found in one table.

`make torture` runs all that has not passed yet on this very source: one that was ended goes on where it
was. `make torture PART=nemesis-3` runs one part, in any case; PART=django all that begin so. Each takes less than 40 minutes on two
cores. What a part counted is kept in target/torture/parts, what it wrote in target/test-logs.
Standard library only: it runs before anything is installed.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict

from steps import (
    DJANGO_SUITE,
    LOGS,
    PYTHON_TOOLS,
    ROOT,
    STATIC,
    VENV,
    Counts,
    Step,
    count_cargo,
    count_closing_line,
    count_pytest,
    git_files,
    last_lines,
    model_step,
    package_steps,
    python_script,
    python_step,
    report,
    run,
)

RESULTS = ROOT / "target" / "torture" / "parts"
BUILD = ["cargo", "build", "--locked", "--release"]
# So many seeds of the simulation make a part.
SEEDS = 2500


def cargo(name: str, *arguments: str, **environment: str) -> Step:
    return Step(name, [["cargo", "test", "--locked", *arguments]], count_cargo, environment)


def pytest(name: str, *arguments: str) -> Step:
    command = [str(VENV / "pytest"), "-q", "-ra", f"--junitxml={LOGS / name}.xml", *arguments]
    environment = {"LITEFS_PY_SLOW": "1", "LITEFS_PY": str(ROOT / "target/release/litefs-py")}
    return Step(name, [BUILD, command], count_pytest, environment)


def script(name: str, *command: str) -> Step:
    return Step(name, [BUILD, [sys.executable, *command]], count_closing_line)


def power(name: str, *options: str, **environment: str) -> Step:
    arguments = ["--test", "power_loss", "--", "--show-output", *options]
    return cargo(name, *arguments, **environment)


def beside_earlier(step: Step) -> Step:
    """With the earlier version, which is built from the project's own history."""
    step.commands.insert(0, [sys.executable, "scripts/earlier.py"])
    earlier = ROOT / "target" / "earlier" / "build" / "release" / "litefs-py"
    step.environment["LITEFS_PY_EARLIER"] = str(earlier)
    return step


def django(number: int) -> Step:
    """A fourth of Django's own tests, its databases on a mount."""
    step = python_script(f"django-{number}", DJANGO_SUITE, "--part", f"{number}/4")
    step.commands.insert(0, BUILD)
    step.environment["LITEFS_PY"] = str(ROOT / "target/release/litefs-py")
    return step


def wheels() -> Step:
    """The wheels as they are shipped, for other machines too, and one that is built of the sdist."""
    dist = ROOT / "python" / "dist"
    build = [str(PYTHON_TOOLS / "python"), "tools/wheels.py"]
    folder = "litefs-py/tests/integration"
    step = python_step(
        "wheels", "-m", "integration", f"{folder}/test_wheel.py", f"{folder}/test_sdist.py"
    )
    step.commands[:0] = [BUILD, build, [*build, "--arch", "aarch64", "--or-skip"]]
    step.environment |= {
        "LITEFS_PY": str(ROOT / "target/release/litefs-py"),
        "LITEFS_PY_DIST": str(dist),
        "LITEFS_PY_SLOW": "1",
        "LITEFS_PY_STATIC": str(ROOT / "target" / STATIC / "dist" / "litefs-py"),
    }
    return step


def pythons() -> Step:
    """The Python packages' units on every Python and with every Django."""
    step = script("pythons", "scripts/pythons.py")
    step.environment["LITEFS_PY"] = str(ROOT / "target/release/litefs-py")
    return step


def simulation(number: int) -> Step:
    seeds = f"{number * SEEDS}..{(number + 1) * SEEDS}"
    # A seed that held on another source says nothing of this one.
    results = ROOT / "target" / "torture" / f"simulation-{source()[:12]}.jsonl"
    arguments = ["--test", "simulation", "--", "--seeds", seeds, "--results", str(results)]
    return cargo(f"simulation-{number + 1}", *arguments, "--minutes", "38")


def series(name: str, nodes: int, seeds: str, *options: str) -> Step:
    arguments = ["--nodes", str(nodes), "--seeds", seeds, "--seconds", "450", *options]
    return script(name, "tests/torture/series.py", *arguments)


def litefs(name: str, rounds: int) -> Step:
    """Its tests, with more rounds of what is repeated under load."""
    step = pytest(name, "tests/litefs")
    step.environment["LITEFS_PY_ROUNDS"] = str(rounds)
    return step


def packages() -> Step:
    """Of the program as it is shipped."""
    static, looked, _ = package_steps("dist")
    if not static.skip:
        looked.commands = static.commands + looked.commands
    return looked


def machines(*options: str) -> Step:
    """On machines, with the package that the part `packages` has made."""
    return package_steps("dist", *options)[2]


def upgrade_package() -> Step:
    """From the package of an earlier source, node by node under load, and back."""
    step = machines("rolling_upgrade")
    earlier = ROOT / "target" / "earlier" / "package" / "litefs-py-earlier.deb"
    step.environment["LITEFS_PY_EARLIER_PACKAGE"] = str(earlier)
    step.commands.insert(0, [sys.executable, "scripts/earlier.py", "--package"])
    return step


def qemu() -> Step:
    """The disk image, made and booted."""
    step = machines("appliance")
    asked = [sys.executable, "packaging/qcow2.py", "--missing"]
    lacking = subprocess.run(asked, cwd=ROOT, capture_output=True, text=True).stdout.strip()
    if lacking:
        step.skip = f"a disk image needs {lacking}"
    step.commands.insert(0, asked[:-1])
    return step


def site() -> Step:
    """A Django site of the wheels, on machines."""
    step = machines("django_site")
    step.environment["LITEFS_PY_SITE"] = str(ROOT / "target" / "site")
    step.commands.insert(0, [sys.executable, "scripts/wheels_for_machines.py"])
    return step


PARTS: dict[str, Callable[[], Step]] = {
    "cluster": lambda: pytest("cluster", "tests/cluster"),
    "programs-1": lambda: pytest("programs-1", "tests/sqlite_programs", "-k", "mptester"),
    "programs-2": lambda: pytest("programs-2", "tests/sqlite_programs", "-k", "not mptester"),
    "nemesis-3": lambda: series("nemesis-3", 3, "1-4"),
    "nemesis-5": lambda: series("nemesis-5", 5, "1-4"),
    "nemesis-versions": lambda: beside_earlier(series("nemesis-versions", 3, "11-12")),
    "nemesis-litefs": lambda: series("nemesis-litefs", 3, "1-4", "--litefs"),
    "litefs": lambda: litefs("litefs", 100),
    "power": lambda: power("power", "--ignored"),
    "power-cuts": lambda: power("power-cuts", "--skip", "nodes::", POWER_LOSS_THOROUGH="1"),
    "model": lambda: model_step("model", "--ignored"),
    "upgrade": lambda: beside_earlier(pytest("upgrade", "tests/cluster/test_rolling_upgrade.py")),
    "fuzz": lambda: script("fuzz", "scripts/fuzz.py"),
    "soak": lambda: script("soak", "tests/torture/soak.py", "--seconds", "1800"),
    "wheels": wheels,
    "pythons": pythons,
    "packages": packages,
    "machines": machines,
    "upgrade-package": upgrade_package,
    "machines-litefs": lambda: machines("--engine", "litefs"),
    "qemu": qemu,
    "site": site,
    "mutants-1": lambda: script("mutants-1", "scripts/mutants.py", "--part", "1/2"),
    "mutants-2": lambda: script("mutants-2", "scripts/mutants.py", "--part", "2/2"),
}
PARTS |= {f"simulation-{n + 1}": lambda n=n: simulation(n) for n in range(4)}
PARTS |= {f"django-{n + 1}": lambda n=n: django(n + 1) for n in range(4)}


def source() -> str:
    """What the parts are about: every file of the tree but the prose."""
    digest = hashlib.sha256()
    for name in sorted(git_files()):
        path = ROOT / name
        if path.is_file() and not name.endswith(".md"):
            digest.update(name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def kept(part: str, now: str) -> tuple[Counts, float] | None:
    """What a part counted, if it passed on this source."""
    try:
        result = json.loads((RESULTS / f"{part}.json").read_text())
    except (OSError, json.JSONDecodeError):
        return None
    counts = Counts(**result["counts"])
    return (counts, result["seconds"]) if result["source"] == now and not counts.failed else None


def run_part(part: str, now: str) -> tuple[Counts, float]:
    step = PARTS[part]()
    log = LOGS / f"{part}.log"
    if step.skip:
        print(f"{part:<16} skipped: {step.skip}", flush=True)
        return Counts(skipped=1, reasons=[f"{part}: {step.skip}"]), 0.0
    print(f"{part:<16} …", flush=True)
    began = time.monotonic()
    good = run(step, log)
    seconds = time.monotonic() - began
    counts = step.count(log, good)
    RESULTS.mkdir(parents=True, exist_ok=True)
    result = {"source": now, "counts": asdict(counts), "seconds": round(seconds, 1)}
    (RESULTS / f"{part}.json").write_text(json.dumps(result))
    if counts.failed:
        print(f"{part:<16} FAILED after {seconds:.0f} s; the end of {log}:")
        print(last_lines(log, 40))
    else:
        print(f"{part:<16} passed, {seconds:.0f} s", flush=True)
    return counts, seconds


def main() -> int:
    wanted = []
    for word in sys.argv[1:]:
        found = [part for part in PARTS if part == word or part.startswith(f"{word}-")]
        if not found:
            sys.exit(f"there is no part {word!r}; parts: {', '.join(PARTS)}")
        # Of `cluster` and a `cluster-1` the one that was named.
        wanted += [word] if word in found else found
    LOGS.mkdir(parents=True, exist_ok=True)
    now = source()
    rows: list[tuple[str, Counts, float]] = []
    for part in wanted or PARTS:
        before = None if wanted else kept(part, now)
        if before:
            print(f"{part:<16} passed before on this source", flush=True)
        rows.append((part, *(before or run_part(part, now))))
    return report(rows)


if __name__ == "__main__":
    sys.exit(main())
