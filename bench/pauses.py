"""How long writes pause when the leader dies, freezes, or hands over. A client on another node writes
as fast as it can; nothing of it may fail."""

import time

from devcluster import wait_for
from table import Reach


def failover(bench):
    rounds(bench, bench.cluster)


def rounds(bench, cluster, of=""):
    for fault, what, reach in (
        (cluster.kill, "SIGKILL of the leader", Reach(most=0.3, worst=0.6)),
        (cluster.pause, "SIGSTOP of the leader", Reach(worst=1.0)),
    ):
        gaps, failed = [], 0
        for _ in range(bench.options.rounds):
            leader, writer_node = cluster.leader(), cluster.followers()[0]
            with cluster.writing("log.db", writer_node, timeout=20) as [writer]:
                moment = time.time()
                fault(leader)
                wait_for(lambda w=writer, m=moment: w.after(m) > 50, 60, "writes after the fault")
            gaps.append(writer.gap(moment))
            failed += len(writer.failures())
            cluster.heal()
        bench.note(f"pause after {what}{of}", "s", gaps, reach=reach)
        bench.note(f"statements failed by {what}{of}", "in all", [failed], reach=Reach(most=0))


def switchover(bench):
    gaps, failed = [], 0
    for _ in range(bench.options.rounds):
        target, other = bench.cluster.followers()
        with bench.cluster.writing("log.db", other, timeout=20) as [writer]:
            moment = time.time()
            bench.cluster.command("switchover", "--dir", bench.cluster.folder, "--to", target.name)
            wait_for(target.is_primary, 20, "the switchover")
            moment_after = time.time()
            wait_for(lambda w=writer, m=moment_after: w.after(m) > 50, 60, "writes after it")
        gaps.append(1000 * writer.gap(moment))
        failed += len(writer.failures())
    bench.note("pause of a switchover", "ms", gaps, reach=Reach(most=50))
    bench.note("statements failed by switchovers", "in all", [failed], reach=Reach(most=0))
