# machines: n1 n2 n3
# One machine's disk is full; the others go on, and it comes back by itself when there is space.
start_all()
form(n1, n2, n3)
load(n1, n2)

with subtest("no space left"):
    n3.execute("dd if=/dev/zero of=/var/lib/litefs-py/ballast bs=1M 2>&1", timeout=120)
    n3.execute("dd if=/dev/zero of=/var/lib/litefs-py/ballast-2 bs=512 2>&1", timeout=120)
    n3.fail("head -c 100000 /dev/zero > /var/lib/litefs-py/more")
    # More than its log has reserved.
    for node in may_write(n1, n2):
        sql(
            node,
            "create table if not exists filler(data); "
            "insert into filler select randomblob(1000000) from generate_series(1, 20)",
        )
    for node in (n1, n2):
        more(node)

with subtest("space again"):
    n3.succeed(
        "rm -f /var/lib/litefs-py/ballast /var/lib/litefs-py/ballast-2 /var/lib/litefs-py/more"
    )
    ready(n3, timeout=120)

acked, failed = stop_load(n1, n2)
none_failed(failed)
nothing_lost(acked, n1, n2, n3)
