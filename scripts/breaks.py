#!/usr/bin/env python3
"""Breaks the code that keeps each promise, once, and looks whether its test sees it.

`make torture PART=breaks` runs it; `scripts/breaks.py one-history …` only these. Works in a copy of
the tree, target/breaks, never in the tree itself. First the tests are run on the code as it is; a
break counts as caught only if the named test then fails with the code changed, and the code still
compiles. Standard library only.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass

from steps import ROOT, git_files

PLACE = ROOT / "target" / "breaks"
TREE = PLACE / "tree"
# The longest that one test may take, seconds; hanging counts as failing where a promise is about time.
LONG = 600


@dataclass
class Break:
    """In `file`, `old` becomes `new`, and `test` must fail: of the library (a filter of `cargo test
    --lib`), of an integration test (`name::filter`, with `kind="rust"`), or of tests/cluster."""

    promise: str
    what: str
    file: str
    old: str
    new: str
    test: str
    kind: str = "lib"


BREAKS = [
    Break(
        "no-lost-ack",
        "the log acknowledges what it has not synced",
        "src/raft/log/writer.rs",
        "            self.current.file.sync()?;\n            self.current.synced",
        "            self.current.synced",
        "raft::log::tests",
    ),
    Break(
        "no-lost-ack",
        "a record says more than its database holds",
        "src/store/durability.rs",
        '        record.write(&folder.join("record"))?;',
        '        record.applied.index += 1;\n        record.write(&folder.join("record"))?;',
        "store::tests::recovery",
    ),
    Break(
        "one-history",
        "a transaction is taken whatever it was made on",
        "src/cluster/state.rs",
        "if commit.base != position {",
        "if commit.base.txid > position.txid {",
        "cluster::state::tests",
    ),
    Break(
        "one-history",
        "an id that was judged is judged again",
        "src/cluster/state.rs",
        "            Some(verdict) => return Effect::Duplicate(verdict),",
        "            Some(_) => {}",
        "cluster::state::tests",
    ),
    Break(
        "invisible-until-committed",
        "the commit point is not seen as one",
        "src/commit/files.rs",
        "Ok(WalEvent::Pass | WalEvent::Repeat) => {",
        "Ok(WalEvent::Pass | WalEvent::Repeat | WalEvent::CommitPoint(_)) => {",
        "test_no_quorum.py",
        "cluster",
    ),
    Break(
        "invisible-until-committed",
        "pages are reachable before the kernel forgot the old ones",
        "src/store/vfs.rs",
        "        target.tell_written();\n",
        "",
        "store::tests::checkpoint",
    ),
    Break(
        "one-primary",
        "a proposal is not fenced to the term of its leader",
        "src/raft/node.rs",
        "write.with_leader(CommittedLeaderId::new(term)).await.map_err(|error| stopped(&error))?;\n"
        "        let outcome",
        "let _ = (term, CommittedLeaderId::new(0));\n"
        "        write.await.map_err(|error| stopped(&error))?;\n        let outcome",
        "raft_cluster::elections",
        "rust",
    ),
    Break(
        "caught-up",
        "a node writes before it has applied what was committed before",
        "src/commit/gate.rs",
        "&& state.visible >= held.index;",
        "|| held.index > 0;",
        "test_write_anywhere.py",
        "cluster",
    ),
    Break(
        "nothing-discarded",
        "a database that is not what its position says is removed, not set aside",
        "src/store/folder.rs",
        '        fs::rename(folder, &target).map_err(io_at("setting aside", folder))?;',
        '        fs::create_dir(&target).map_err(io_at("setting aside", folder))?;\n'
        "        remove_folder(folder)?;",
        "store::tests::recovery",
    ),
    Break(
        "bounded-answer",
        "a lock request waits for a leader without end",
        "src/commit/gate.rs",
        "        self.after(self.settings.lock_wait, move |database| {\n"
        "            let mut state = lock(&database.state);\n            let over",
        "        self.after(Duration::from_secs(3600), move |database| {\n"
        "            let mut state = lock(&database.state);\n            let over",
        "test_no_quorum.py",
        "cluster",
    ),
    Break(
        "readers-go-on",
        "the WAL begins anew beneath its readers",
        "src/store/append.rs",
        "let free = lock(wal_readers, LockKind::Exclusive);",
        "let free = true;",
        "store::tests",
    ),
    Break(
        "converges",
        "a node that is too far behind gets no snapshot",
        "src/raft/snapshot_stream.rs",
        '    tracing::info!(to, applied = ?meta.applied, "sending a snapshot");',
        '    if to > 0 {\n        return Err(LinkError::new("never"));\n    }',
        "raft_cluster::compaction",
        "rust",
    ),
    Break(
        "no-open-door",
        "whoever reaches the port is let in without a certificate",
        "src/mesh/tls.rs",
        "            .with_client_cert_verifier(clients)\n",
        "            .with_no_client_auth()\n",
        "mesh::tests::doors",
    ),
    Break(
        "no-open-door",
        "any token opens the API",
        "src/api/access.rs",
        "Ok(token) if same(given.as_bytes(), token.as_bytes()) => None,",
        "Ok(token) if !given.is_empty() || token.is_empty() => None,",
        "api::tests",
    ),
]


def command(test: str, kind: str) -> list[str]:
    if kind == "cluster":
        return [str(ROOT / ".venv/bin/pytest"), "-q", "-x", f"tests/cluster/{test}"]
    if kind == "rust":
        name, _, test = test.partition("::")
        return ["cargo", "test", "--locked", "--test", name, "--", test]
    return ["cargo", "test", "--locked", "--lib", "--", test]


def build(test: str, kind: str) -> list[str]:
    if kind == "cluster":
        return ["cargo", "build", "--locked"]
    if kind == "rust":
        return ["cargo", "test", "--locked", "--no-run", "--test", test.partition("::")[0]]
    return ["cargo", "test", "--locked", "--no-run", "--lib"]


def run(arguments: list[str]) -> tuple[bool, str]:
    """Whether it ended well, and what it wrote."""
    environment = {
        **os.environ,
        "CARGO_TARGET_DIR": str(PLACE / "target"),
        "LITEFS_PY": str(PLACE / "target/debug/litefs-py"),
        "CARGO_TERM_COLOR": "never",
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
    )
    try:
        output, _ = process.communicate(timeout=LONG)
    except subprocess.TimeoutExpired:
        process.kill()
        return False, f"no end after {LONG} s"
    return process.returncode == 0, output


def ran_something(output: str) -> bool:
    """A filter that fits no test passes, and proves nothing."""
    return bool(re.search(r"\b[1-9]\d* passed", output))


def copy_tree() -> None:
    """The files of the work tree as they are now, and what was built of their dependencies."""
    shutil.rmtree(TREE, ignore_errors=True)
    for name in git_files():
        if (ROOT / name).is_file():
            (TREE / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, TREE / name)
    built = ROOT / "target" / "debug"
    if built.is_dir() and not (PLACE / "target").exists():
        (PLACE / "target").mkdir(parents=True)
        subprocess.run(["cp", "-a", str(built), str(PLACE / "target/debug")], check=True)


def try_break(broken: Break) -> str:
    """Empty: it was caught. Else why not."""
    file = TREE / broken.file
    whole = file.read_text()
    if whole.count(broken.old) != 1:
        return f"{broken.file} has changed: the place to break is there {whole.count(broken.old)} times"
    file.write_text(whole.replace(broken.old, broken.new))
    try:
        good, output = run(build(broken.test, broken.kind))
        if not good:
            return "it does not compile:\n" + "\n".join(output.splitlines()[-20:])
        good, _ = run(command(broken.test, broken.kind))
        return f"{broken.test} passes all the same" if good else ""
    finally:
        file.write_text(whole)


def main() -> int:
    wanted = [b for b in BREAKS if not sys.argv[1:] or b.promise in sys.argv[1:]]
    copy_tree()
    caught = missed = 0
    for test, kind in dict.fromkeys((b.test, b.kind) for b in wanted):
        good, output = run(build(test, kind))
        good, output = run(command(test, kind)) if good else (good, output)
        if not good or not ran_something(output):
            print("\n".join(output.splitlines()[-40:]))
            print(f"{test} does not pass on the code as it is", flush=True)
            missed += 1
    for broken in [] if missed else wanted:
        began = time.monotonic()
        why = try_break(broken)
        seconds = f"{time.monotonic() - began:.0f} s"
        if why:
            missed += 1
            print(f"NOT CAUGHT {broken.promise}: {broken.what}: {why}", flush=True)
        else:
            caught += 1
            print(f"caught {broken.promise}: {broken.what} ({broken.test}, {seconds})", flush=True)
    print(f"\n{caught} passed, {missed} failed, 0 skipped")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
