"""The same with five nodes, of which three make a majority."""

import pauses
from common import DB, work
from devcluster import LOG_SCHEMA
from small import SMALL_ON_FOLLOWER, SMALL_ON_LEADER


def five(bench):
    cluster = bench.fresh_cluster(5)
    plain, leader, follower = bench.plain_of("five"), cluster.leader(), cluster.followers()[0]
    work("prepare", plain)
    work("prepare", leader.db(DB))
    cluster.settle(DB)
    full, on_leader, on_follower = bench.runs(
        ("writes", plain, bench.options.seconds, "FULL"),
        ("writes", leader.db(DB), bench.options.seconds, "FULL"),
        ("writes", follower.db(DB), bench.options.seconds, "FULL"),
    )
    small = "small transactions, one client, five nodes"
    bench.note(f"{small}, on the leader", "/s", on_leader, full, SMALL_ON_LEADER, "FULL")
    bench.note(f"{small}, on a follower", "/s", on_follower, full, SMALL_ON_FOLLOWER, "FULL")
    cluster.create("log.db", *LOG_SCHEMA)
    pauses.rounds(bench, cluster, ", five nodes")
