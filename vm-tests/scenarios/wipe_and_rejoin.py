# machines: n1 n2 n3
# docs/operations.md, "A disk was wiped": the machine is just started.
start_all()
form(n1, n2, n3)
load(n1, n2)

with subtest("a wiped disk"):
    n3.succeed("systemctl stop litefs-py", timeout=60)
    n3.succeed("find /var/lib/litefs-py -mindepth 1 -delete")
    more(n1)
    n3.succeed("systemctl start --no-block litefs-py")
    ready(n3, timeout=120)

with subtest("a wiped machine joins again, by a token"):
    n3.succeed("systemctl stop litefs-py", timeout=60)
    n3.succeed("find /var/lib/litefs-py /etc/litefs-py -mindepth 1 -delete")
    n1.succeed("litefs-py member remove n3", timeout=60)
    join(n3, n1)

acked, failed = stop_load(n1, n2)
none_failed(failed)
nothing_lost(acked, n1, n2, n3)
