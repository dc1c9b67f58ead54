"""What the clients do, and the tables that they do it in.

But for the lists, each transaction also writes a row of `log`: `seq` is its place in the one history,
`who` and `n` say which operation of which client it was, `a` to `c` what it did. Rows of it are never
removed. So the checker can play the whole history back, and knows what a reader must have seen.

An operation is a dict: `f` what to do and what it needs. `run` gets it, a connection in autocommit
mode, and `at`, which it tells how far it is: an error before `at("commit")` means that it did not
happen. It answers what the checker needs to know.
"""

import time

LOG = "CREATE TABLE log(seq INTEGER PRIMARY KEY, who INT, n INT, a INT, b INT, c INT)"
SEQ = "SELECT coalesce(max(seq), 0) FROM log"
APPEND_LOG = "INSERT INTO log(who, n, a, b, c) VALUES (?, ?, ?, ?, ?)"

ACCOUNTS, MONEY = 8, 1000
COUNTERS = 4
REGISTERS = 6
CUSTOMERS = 5


def one(connection, sql, *args):
    return connection.execute(sql, args).fetchone()[0]


class Workload:
    """`wid`: the client's own number. `rng`: its random numbers."""

    TABLES = ()
    PRAGMAS = ()

    def __init__(self, wid, rng):
        self.wid, self.rng = wid, rng

    def begin(self, op):
        return "BEGIN" if op.get("deferred") else "BEGIN IMMEDIATE"

    def commit(self, connection, at):
        at("commit")
        connection.execute("COMMIT")

    def next(self, n):
        """The next operation: mostly writes; reads, some after a barrier."""
        op = {"n": n}
        dice = self.rng.random()
        if dice < 0.80:
            if self.rng.random() < 0.15:
                op["deferred"] = 1
            return self.next_write(op)
        op["f"] = "read"
        if dice > 0.98:
            op["barrier"] = 1
        return op

    def run(self, connection, op, at):
        if op["f"] in ("read", "long"):
            return self.read(connection, op)
        return self.write(connection, op, at)

    def read(self, connection, op):
        """One snapshot. A long one is looked at again and again, and must stay as it is."""
        connection.execute("BEGIN")
        try:
            seen = {"q": one(connection, SEQ), **self.look(connection)}
            end = time.monotonic() + op.get("hold", 0)
            while time.monotonic() < end:
                time.sleep(0.25)
                again = {"q": one(connection, SEQ), **self.look(connection)}
                if again != seen:
                    return {**seen, "changed": again}
        finally:
            if connection.in_transaction:
                connection.execute("COMMIT")
        return seen


class Bank(Workload):
    """Money goes from account to account; none is made and none is lost."""

    TABLES = (
        "CREATE TABLE accounts(id INTEGER PRIMARY KEY, balance INT)",
        LOG,
        *(f"INSERT INTO accounts VALUES ({i}, {MONEY})" for i in range(ACCOUNTS)),
    )

    def next_write(self, op):
        a, b = self.rng.sample(range(ACCOUNTS), 2)
        return {**op, "f": "transfer", "a": a, "b": b, "c": self.rng.randint(1, 9)}

    def write(self, connection, op, at):
        connection.execute(self.begin(op))
        balance = "SELECT balance FROM accounts WHERE id = ?"
        a, b = one(connection, balance, op["a"]), one(connection, balance, op["b"])
        change = "UPDATE accounts SET balance = ? WHERE id = ?"
        connection.execute(change, (a - op["c"], op["a"]))
        connection.execute(change, (b + op["c"], op["b"]))
        row = connection.execute(APPEND_LOG, (self.wid, op["n"], op["a"], op["b"], op["c"]))
        self.commit(connection, at)
        return {"q": row.lastrowid}

    def look(self, connection):
        rows = connection.execute("SELECT balance FROM accounts ORDER BY id").fetchall()
        return {"v": [row[0] for row in rows]}


class Counter(Workload):
    """Each transaction takes the next number of a counter. One statement; a trigger does the rest."""

    TABLES = (
        "CREATE TABLE counters(k INTEGER PRIMARY KEY, n INT)",
        LOG,
        *(f"INSERT INTO counters VALUES ({k}, 0)" for k in range(COUNTERS)),
        "CREATE TRIGGER count AFTER INSERT ON log BEGIN "
        "UPDATE counters SET n = n + 1 WHERE k = new.a; "
        "UPDATE log SET b = (SELECT n FROM counters WHERE k = new.a) WHERE seq = new.seq; END",
    )

    def next_write(self, op):
        op.pop("deferred", None)
        return {**op, "f": "count", "a": self.rng.randrange(COUNTERS)}

    def write(self, connection, op, at):
        at("commit")
        row = connection.execute(APPEND_LOG, (self.wid, op["n"], op["a"], None, None))
        return {"q": row.lastrowid}

    def look(self, connection):
        rows = connection.execute("SELECT n FROM counters ORDER BY k").fetchall()
        return {"v": [row[0] for row in rows]}


class Register(Workload):
    """Keys with a value each; a write says which value it replaced, in the log: no update is lost.
    Some compare first, outside their transaction."""

    TABLES = (
        "CREATE TABLE registers(k INTEGER PRIMARY KEY, v INT)",
        LOG,
        *(f"INSERT INTO registers VALUES ({k}, 0)" for k in range(REGISTERS)),
    )

    def next_write(self, op):
        f = "cas" if self.rng.random() < 0.3 else "set"
        return {**op, "f": f, "a": self.rng.randrange(REGISTERS), "c": self.wid * 10**6 + op["n"]}

    def write(self, connection, op, at):
        value = "SELECT v FROM registers WHERE k = ?"
        expected = one(connection, value, op["a"]) if op["f"] == "cas" else None
        connection.execute(self.begin(op))
        if op["f"] == "cas":
            sql = "UPDATE registers SET v = ? WHERE k = ? AND v = ?"
            if connection.execute(sql, (op["c"], op["a"], expected)).rowcount == 0:
                connection.execute("ROLLBACK")
                return None
            before = expected
        else:
            before = one(connection, value, op["a"])
            connection.execute("UPDATE registers SET v = ? WHERE k = ?", (op["c"], op["a"]))
        row = connection.execute(APPEND_LOG, (self.wid, op["n"], op["a"], before, op["c"]))
        self.commit(connection, at)
        return {"q": row.lastrowid}

    def look(self, connection):
        rows = connection.execute("SELECT v FROM registers ORDER BY k").fetchall()
        return {"v": [row[0] for row in rows]}


class Orders(Workload):
    """Orders with lines, totals by customer kept by triggers, indexes; small caches that spill,
    savepoints that are rolled back, rows that go again; now and then large rows, an index made anew,
    a VACUUM, a checkpoint."""

    TABLES = (
        "CREATE TABLE customers(id INTEGER PRIMARY KEY, lines INT, total INT)",
        "CREATE TABLE orders(id INTEGER PRIMARY KEY, customer INT)",
        "CREATE TABLE lines(id INTEGER PRIMARY KEY, entry INT, price INT, pad BLOB)",
        "CREATE INDEX by_customer ON orders(customer)",
        "CREATE INDEX by_entry ON lines(entry, price)",
        LOG,
        "CREATE TRIGGER added AFTER INSERT ON lines BEGIN UPDATE customers "
        "SET lines = lines + 1, total = total + new.price "
        "WHERE id = (SELECT customer FROM orders WHERE id = new.entry); END",
        "CREATE TRIGGER removed AFTER DELETE ON lines BEGIN UPDATE customers "
        "SET lines = lines - 1, total = total - old.price "
        "WHERE id = (SELECT customer FROM orders WHERE id = old.entry); END",
        *(f"INSERT INTO customers VALUES ({i}, 0, 0)" for i in range(CUSTOMERS)),
    )
    PRAGMAS = ("PRAGMA cache_size = 10",)
    savepoints = True

    def next_write(self, op):
        customer = self.rng.randrange(CUSTOMERS)
        dice = self.rng.random()
        if dice < 0.35:
            return {**op, "f": "cancel", "a": customer}
        if dice < 0.36:
            return {**op, "f": self.rng.choice(["index", "vacuum", "checkpoint"]), "a": customer}
        prices = [self.rng.randint(1, 99) for _ in range(self.rng.randint(1, 4))]
        op = {**op, "f": "order", "a": customer, "prices": prices, "pad": self.rng.randint(0, 400)}
        if dice > 0.97:
            op["pad"] = self.rng.randint(50_000, 150_000)
        if 0.85 < dice < 0.92 and self.savepoints:
            op["savepoint"] = 1
        return op

    def write(self, connection, op, at):
        if op["f"] in ("vacuum", "checkpoint"):
            # Neither changes what a reader sees.
            at("commit")
            orders = {"vacuum": "VACUUM", "checkpoint": "PRAGMA wal_checkpoint(TRUNCATE)"}
            connection.execute(orders[op["f"]]).fetchall()
            return None
        connection.execute(self.begin(op))
        if op["f"] == "order":
            total, lines = self.order(connection, op)
        elif op["f"] == "index":
            connection.execute("DROP INDEX by_customer")
            connection.execute("CREATE INDEX by_customer ON orders(customer)")
            total, lines = 0, 0
        else:
            total, lines = self.cancel(connection, op)
        row = connection.execute(APPEND_LOG, (self.wid, op["n"], op["a"], total, lines))
        self.commit(connection, at)
        return {"q": row.lastrowid}

    def order(self, connection, op):
        entry = connection.execute("INSERT INTO orders(customer) VALUES (?)", (op["a"],)).lastrowid
        insert = "INSERT INTO lines(entry, price, pad) VALUES (?, ?, zeroblob(?))"
        if op.get("savepoint"):
            connection.execute("SAVEPOINT s")
            for _ in range(20):
                connection.execute(insert, (entry, 7, 3000))
            connection.execute("ROLLBACK TO s")
            connection.execute("RELEASE s")
        for price in op["prices"]:
            connection.execute(insert, (entry, price, op["pad"]))
        return sum(op["prices"]), len(op["prices"])

    def cancel(self, connection, op):
        oldest = "SELECT min(id) FROM orders WHERE customer = ?"
        entry = one(connection, oldest, op["a"])
        if entry is None:
            return 0, 0
        sums = "SELECT coalesce(sum(price), 0), count(*) FROM lines WHERE entry = ?"
        total, lines = connection.execute(sums, (entry,)).fetchone()
        connection.execute("DELETE FROM lines WHERE entry = ?", (entry,))
        connection.execute("DELETE FROM orders WHERE id = ?", (entry,))
        return -total, -lines

    def look(self, connection):
        """The totals as kept, and as counted."""
        kept = connection.execute("SELECT lines, total FROM customers ORDER BY id").fetchall()
        sums = (
            "SELECT c.id, count(l.id), coalesce(sum(l.price), 0) FROM customers c "
            "LEFT JOIN orders o ON o.customer = c.id LEFT JOIN lines l ON l.entry = o.id "
            "GROUP BY c.id ORDER BY c.id"
        )
        counted = [row[1:] for row in connection.execute(sums)]
        return {"v": [list(row) for row in kept], "counted": [list(row) for row in counted]}


class Lists(Workload):
    """Appends to lists and reads of them, several in a transaction; elements are unique. There is no
    log: what happened in which order is to be found out from the lists alone."""

    TABLES = ("CREATE TABLE lists(k INTEGER PRIMARY KEY, v TEXT)",)
    APPEND = (
        "INSERT INTO lists VALUES (?, ?) ON CONFLICT(k) DO UPDATE SET v = v || ',' || excluded.v"
    )

    def __init__(self, wid, rng):
        super().__init__(wid, rng)
        self.newest, self.next_look = 0, 0

    def next(self, n):
        writes = self.rng.random() < 0.8
        steps = []
        for number in range(self.rng.randint(1, 4)):
            if self.rng.random() < 0.04:
                self.newest += 1
            key = max(0, self.newest - self.rng.randrange(6))
            if writes and (number == 0 or self.rng.random() < 0.5):
                steps.append(["a", key, (self.wid * 10**6 + n) * 10 + number])
            else:
                steps.append(["r", key])
        self.rng.shuffle(steps)
        op = {"n": n, "f": "txn" if writes else "read", "steps": steps}
        if writes and self.rng.random() < 0.2:
            op["deferred"] = 1
        if not writes and self.rng.random() < 0.1:
            op["barrier"] = 1
        return op

    def run(self, connection, op, at):
        if time.monotonic() > self.next_look:
            # Which lists the others write into now.
            self.newest = max(self.newest, one(connection, "SELECT max(k) FROM lists") or 0)
            self.next_look = time.monotonic() + 0.1
        connection.execute("BEGIN" if op["f"] == "read" else self.begin(op))
        seen = []
        for step in op["steps"]:
            if step[0] == "a":
                connection.execute(self.APPEND, (step[1], str(step[2])))
            else:
                row = connection.execute("SELECT v FROM lists WHERE k = ?", (step[1],)).fetchone()
                seen.append(row[0] if row else "")
        self.commit(connection, at)
        return {"r": seen}


WORKLOADS = {
    "bank": Bank,
    "counter": Counter,
    "register": Register,
    "orders": Orders,
    "lists": Lists,
}
