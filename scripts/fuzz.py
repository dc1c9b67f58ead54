#!/usr/bin/env python3
"""Fuzzes every parser that reads bytes from a disk or from the network, a while each.

`make torture PART=fuzz` runs all of them, a minute each; `scripts/fuzz.py --seconds 600 ltx config`
only these, for longer. The targets are those of fuzz/, in the layout of cargo-fuzz; this builds them
with stable Rust and runs them, so that cargo-fuzz need not be installed.

What a run finds besides is kept in target/fuzz/corpus, for the next one. A file that a target fails
with is put into target/fuzz/artifacts: repair the parser, and put the file into fuzz/corpus/TARGET,
which every `cargo test` checks. Standard library only.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FUZZ = ROOT / "fuzz"
PLACE = ROOT / "target" / "fuzz"

# As cargo-fuzz has them, without a sanitizer: nothing that is fuzzed is unsafe code.
FLAGS = [
    "--cfg=fuzzing",
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
]
# The longest input; memory in all, and in one piece, in MB; seconds that one input may take.
LIMITS = ["-max_len=4096", "-rss_limit_mb=1024", "-malloc_limit_mb=64", "-timeout=10"]


def targets() -> list[str]:
    with (FUZZ / "Cargo.toml").open("rb") as file:
        return [target["name"] for target in tomllib.load(file)["bin"]]


def host() -> str:
    told = subprocess.run(["rustc", "-vV"], cwd=ROOT, capture_output=True, text=True, check=True)
    return re.findall(r"^host: (\S+)$", told.stdout, re.MULTILINE)[0]


def build(names: list[str], triple: str) -> bool:
    """For a target of its own, so that build scripts and macros are not instrumented."""
    environment = {
        **os.environ,
        "CARGO_ENCODED_RUSTFLAGS": "\x1f".join(FLAGS),
        "CARGO_TARGET_DIR": str(PLACE),
    }
    bins = [part for name in names for part in ("--bin", name)]
    command = ["cargo", "build", "--locked", "--target", triple, *bins]
    return subprocess.run(command, cwd=FUZZ, env=environment).returncode == 0


def fuzz(name: str, triple: str, seconds: int, seed: int) -> bool:
    found, failures = PLACE / "corpus" / name, PLACE / "artifacts" / name
    found.mkdir(parents=True, exist_ok=True)
    failures.mkdir(parents=True, exist_ok=True)
    command = [
        str(PLACE / triple / "debug" / name),
        *(str(corpus) for corpus in (found, FUZZ / "corpus" / name)),
        f"-max_total_time={seconds}",
        f"-seed={seed}",
        f"-artifact_prefix={failures}/",
        "-print_final_stats=1",
        *LIMITS,
    ]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    ) as process:
        try:
            output, _ = process.communicate(timeout=seconds + 300)
        except BaseException as why:
            process.kill()
            if not isinstance(why, subprocess.TimeoutExpired):
                raise
            output, _ = process.communicate()
            output += f"\n{name} did not end {why.timeout} s after it began"
    runs = re.findall(r"stat::number_of_executed_units: (\d+)", output)
    memory = re.findall(r"stat::peak_rss_mb: +(\d+)", output)
    coverage = re.findall(r" cov: (\d+)", output)
    passed = process.returncode == 0
    if not passed:
        print("\n".join(output.splitlines()[-40:]))
    print(
        f"{'ok' if passed else 'FAILED'} {name}: {''.join(runs[-1:]) or '?'} inputs in {seconds} s, "
        f"{''.join(coverage[-1:]) or '?'} edges, {''.join(memory[-1:]) or '?'} MB, seed {seed}",
        flush=True,
    )
    return passed


def main() -> int:
    known = targets()
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("targets", nargs="*", help=f"some of: {' '.join(known)}")
    arguments.add_argument("--seconds", type=int, default=60, help="for each target (60)")
    arguments.add_argument("--seed", type=int, help="of the fuzzer; by default a new one")
    options = arguments.parse_args()
    unknown = sorted(set(options.targets) - set(known))
    if unknown:
        arguments.error(f"no such target: {' '.join(unknown)}")
    names = options.targets or known
    missing = [tool for tool in ("cargo", "c++") if shutil.which(tool) is None]
    if missing:
        for name in names:
            print(f"SKIPPED {name}: there is no {missing[0]}, which libFuzzer is built with")
        print(f"\n0 passed, 0 failed, {len(names)} skipped")
        return 0
    triple = host()
    if not build(names, triple):
        print(f"the targets do not compile\n\n0 passed, {len(names)} failed, 0 skipped")
        return 1
    seed = options.seed or random.randrange(1, 2**31)
    failed = sum(not fuzz(name, triple, options.seconds, seed) for name in names)
    print(f"\n{len(names) - failed} passed, {failed} failed, 0 skipped")
    return 1 if failed else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
