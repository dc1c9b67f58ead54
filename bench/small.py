"""Speed: small transactions, reads by key, one large transaction, many clients at once, and how soon
the others see it."""

from concurrent.futures import ThreadPoolExecutor
from itertools import chain

from common import DB, remove, with_table, work
from table import Reach

# What the goals of the project come to where plain SQLite, WAL, FULL made 10,600 small transactions
# a second, and 266,000 reads by key.
SMALL_ON_LEADER, SMALL_ON_FOLLOWER = Reach(ratio=0.24), Reach(ratio=0.11)
READ_EACH, READ_IN_ONE = Reach(ratio=0.11), Reach(ratio=0.95)


def writes(bench):
    plain, leader, follower = bench.databases()
    seconds = bench.options.seconds
    normal, full, on_leader, on_follower = bench.runs(
        ("writes", plain, seconds, "NORMAL"),
        ("writes", plain, seconds, "FULL"),
        ("writes", leader, seconds, "FULL"),
        ("writes", follower, seconds, "FULL"),
    )
    small = "small transactions, one client"
    bench.note(f"{small}, on the leader", "/s", on_leader, full, SMALL_ON_LEADER, "FULL")
    bench.note(f"{small}, on a follower", "/s", on_follower, full, SMALL_ON_FOLLOWER, "FULL")
    bench.note("the same, on the leader", "/s", on_leader, normal, beside="NORMAL")
    bench.note("the same, on a follower", "/s", on_follower, normal, beside="NORMAL")


def reads(bench):
    plain, leader, follower = bench.databases()
    for kind, what, reach in (
        ("each", "reads by key, each its own transaction", READ_EACH),
        ("one", "reads by key, all in one transaction", READ_IN_ONE),
    ):
        base, on_leader, on_follower = bench.runs(
            *(
                ("reads", database, bench.options.seconds, kind)
                for database in (plain, leader, follower)
            )
        )
        bench.note(f"{what}, on the leader", "/s", on_leader, base, reach)
        bench.note(f"{what}, on a follower", "/s", on_follower, base, reach)


def bulk(bench):
    plain, leader, follower = bench.databases()
    base, on_leader, on_follower = bench.runs(("bulk", plain), ("bulk", leader), ("bulk", follower))
    bench.note("100,000 rows in one transaction, on the leader", "s", on_leader, base)
    bench.note("100,000 rows in one transaction, on a follower", "s", on_follower, base)


def parallel(bench):
    """Eight clients, each on a database of its own; then all on one, which let in one at a time."""
    crowd(bench, "8 clients on 8 databases", 8, 8)
    crowd(bench, "8 clients on one database", 8, 1)


def fifty(bench):
    crowd(bench, "50 clients on 50 databases", 50, 50)


def crowd(bench, what, clients, count):
    """So many clients on so many databases at once, on the leader."""
    leader = bench.cluster.leader()
    places = {
        "plain": [str(bench.plain.with_name(f"plain{count}-{n}.db")) for n in range(count)],
        "ours": [leader.db(f"crowd{count}-{n}.db") for n in range(count)],
    }
    for database in chain(*places.values()):
        with_table(database)
    sums, longest, failed = ({"plain": [], "ours": []} for _ in range(3))
    with ThreadPoolExecutor(clients) as pool:
        for _ in range(bench.options.runs):
            for name, databases in places.items():
                # By then all of them have started.
                wait = str(0.5 + 0.15 * clients)
                jobs = [
                    pool.submit(work, "together", databases[n % count], bench.options.seconds, wait)
                    for n in range(clients)
                ]
                results = [job.result() for job in jobs]
                sums[name].append(sum(result["rate"] for result in results))
                longest[name].append(max(1000 * result["longest"] for result in results))
                failed[name].append(sum(result["failed"] for result in results))
    remove(*places["ours"])
    where = f"{what}, on the leader"
    bench.note(where, "/s", sums["ours"], sums["plain"], beside="FULL")
    bench.note(f"{where}: the longest of all", "ms", longest["ours"], longest["plain"])
    bench.note(
        f"{where}: failed", "in all", [sum(failed["ours"])], [sum(failed["plain"])], Reach(most=0)
    )


def lag(bench):
    """How soon a commit is seen elsewhere; and a read that may not miss any commit."""
    _, leader, follower = bench.databases()
    count = 30 if bench.options.quick else 200
    found = work("lag", leader, follower, count)
    bench.note("from COMMIT to a reader on a follower", "ms", [1000 * value for value in found])
    for where, node in (
        ("the leader", bench.cluster.leader()),
        ("a follower", bench.cluster.followers()[0]),
    ):
        found = work("linearizable", node.db(DB), node.api, count)
        bench.note(f"barrier, then a read by key, on {where}", "ms", [1000 * v for v in found])
