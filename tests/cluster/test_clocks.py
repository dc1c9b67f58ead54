"""A node whose clock is ten minutes off: it is told, and the cluster works on. Nothing rests on clocks but
the dates of certificates and tokens."""

import re
import shutil
import subprocess
import time

import pytest
from cluster_fixtures import PROGRAM
from devcluster import LOG_SCHEMA, Writer, wait_for
from machines import Machine, taken_down, token

OFF = 600

# Moves the time of day of a program, and of no other: a namespace of time moves other clocks alone.
SOURCE = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <sys/time.h>
#include <time.h>

static long off(void) { return atol(getenv("CLOCK_OFF")); }

int clock_gettime(clockid_t clock, struct timespec *now) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = (int (*)(clockid_t, struct timespec *)) dlsym(RTLD_NEXT, "clock_gettime");
    int done = real(clock, now);
    if (!done && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) now->tv_sec += off();
    return done;
}

int gettimeofday(struct timeval *now, void *zone) {
    struct timespec precise;
    (void) zone;
    int done = clock_gettime(CLOCK_REALTIME, &precise);
    now->tv_sec = precise.tv_sec;
    now->tv_usec = precise.tv_nsec / 1000;
    return done;
}

time_t time(time_t *told) {
    struct timespec precise;
    clock_gettime(CLOCK_REALTIME, &precise);
    if (told) *told = precise.tv_sec;
    return precise.tv_sec;
}
"""


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    if not shutil.which("cc"):
        pytest.skip("there is no C compiler")
    folder = tmp_path_factory.mktemp("clock")
    (folder / "clock.c").write_text(SOURCE)
    command = ["cc", "-shared", "-fPIC", "-O1", "-o", folder / "clock.so", folder / "clock.c"]
    subprocess.run([*command, "-ldl"], check=True)
    return folder / "clock.so"


def moved(library, seconds):
    return {"LD_PRELOAD": str(library), "CLOCK_OFF": str(seconds)}


@pytest.fixture(params=[OFF, -OFF], ids=["ahead", "behind"])
def three(request, library, tmp_path):
    """The third one's clock is off. What its `join` said is kept."""
    made = [Machine(tmp_path, name, PROGRAM) for name in ("n1", "n2", "n3")]
    with taken_down(made):
        first, second, third = made
        first.init().start()
        second.join(token(first), first, check=True)
        second.start()
        wait_for(lambda: first.members().get("n2") == "voter", 30, "n2 to vote")
        third.environment = moved(library, request.param)
        third.joined = third.join(token(first), first, check=True)
        third.start()
        wait_for(lambda: first.members().get("n3") == "voter", 30, "n3 to vote")
        yield made


def warned(node, of):
    """By how many seconds the node's log says that another one's clock is off; the last of such lines."""
    lines = [line for line in node.log().splitlines() if f'node="{of}"' in line and "clock" in line]
    return lines and abs(int(re.search(r"off_seconds=(\d+)", lines[-1])[1]) - OFF) < 30


def test_it_is_told_and_everything_works(three, tmp_path):
    first, second, third = three
    assert re.search(r"warning: .* clock .* differ by (59\d|60\d) s.*NTP", third.joined.stderr), (
        third.joined
    )
    wait_for(lambda: warned(first, "n3"), 20, "a warning of the leader that let it in")
    # A new leader compares the clocks as soon as it leads.
    second.ask_cli("switchover", "--to", "n2")
    wait_for(lambda: warned(second, "n3"), 20, "a warning of the next leader")
    assert not warned(second, "n1") and not warned(first, "n2")

    first.sql("app.db", *LOG_SCHEMA)
    writers = [Writer(node.db("app.db"), node.name, tmp_path / f"w-{node.name}") for node in three]
    wait_for(lambda: all(len(writer.acknowledged()) > 20 for writer in writers), 30, "rows of all")
    # It leads, too; for it, the others are off.
    third.ask_cli("switchover", "--to", "n3")
    wait_for(third.is_primary, 20, "n3 to lead")
    wait_for(lambda: warned(third, "n1") and warned(third, "n2"), 20, "its own warnings")
    now = time.time()
    wait_for(lambda: all(w.after(now) > 20 for w in writers), 30, "rows while it leads")
    for writer in writers:
        writer.stop()
        assert not writer.failures()
    rows = sum(len(writer.acknowledged()) for writer in writers)
    for node in three:
        node.barrier()
        assert node.sql("app.db", "SELECT n FROM counter") == [[rows]]
    # A token that it makes is good elsewhere.
    fourth = Machine(tmp_path, "n4", PROGRAM)
    assert fourth.join(token(third), first, third).returncode == 0
