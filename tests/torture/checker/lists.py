"""Elle's analysis of list-append histories (Kingsbury and Alvaro, 2020), with what this cluster
promises about time.

The last state of the lists tells the order of each list's appends. From it and from the reads follow
dependencies between transactions: ww (its append came after), wr (it read the append), rw (it read
what was before the append). Added to these: real time between writers, since all writes stand in one
order; real time between those on one node while its daemon lives; and between what was acknowledged
before a barrier and the read after it. A cycle is a contradiction.
"""

from .graph import components, shortest_cycle
from .operations import Anomaly

# So many of one kind are reported.
MOST = 20


def elements(text):
    return [int(part) for part in text.split(",")] if text else []


class Analysis:
    """`final`: of each list, its elements. `lives`: see operations.Lives."""

    def __init__(self, operations, final, lives):
        self.operations = [op for op in operations if op.op["f"] in ("txn", "read")]
        self.final, self.lives = final, lives
        self.anomalies = []
        self.writer = {}  # element -> place of its operation
        self.place = {}  # element -> (list, index in it)

    def add(self, kind, text, *operations):
        if sum(1 for anomaly in self.anomalies if anomaly.kind == kind) < MOST:
            self.anomalies.append(Anomaly(kind, text, list(operations)))

    def run(self):
        self.index()
        self.check_writes()
        for op in self.operations:
            if op.status == "ok":
                self.check_reads(op)
        self.check_cycles()
        return self.anomalies

    def index(self):
        for number, op in enumerate(self.operations):
            for step in op.op["steps"]:
                if step[0] == "a":
                    self.writer[step[2]] = number
        for key, content in self.final.items():
            for index, element in enumerate(content):
                if element in self.place:
                    self.add("duplicated", f"{element} is in {self.place[element]}, and in {key}")
                self.place[element] = (key, index)
                if element not in self.writer:
                    self.add("from nowhere", f"nobody appended {element}, which is in list {key}")

    def check_writes(self):
        """no-lost-ack, and all or nothing."""
        for op in self.operations:
            appends = [step for step in op.op["steps"] if step[0] == "a"]
            there = [step for step in appends if self.place.get(step[2], (None,))[0] == step[1]]
            if op.status == "ok" and len(there) < len(appends):
                self.add("lost", f"acknowledged, {len(there)} of {len(appends)} are there", op)
            if op.status == "fail" and there:
                self.add("refused but there", f"{len(there)} of {len(appends)} are there", op)
            if op.status == "unknown" and 0 < len(there) < len(appends):
                self.add("half a transaction", f"{len(there)} of {len(appends)} are there", op)

    def check_reads(self, op):
        own = {}
        answers = iter(op.value["r"])
        for step in op.op["steps"]:
            if step[0] == "a":
                own.setdefault(step[1], []).append(step[2])
                continue
            seen, mine = elements(next(answers)), own.get(step[1], [])
            if mine and seen[len(seen) - len(mine) :] != mine:
                self.add("internal", f"its own appends {mine} do not end what it read: {seen}", op)
                continue
            content = self.final.get(step[1], [])
            if seen != content[: len(seen)]:
                self.name_wrong_read(op, step[1], seen, content)
            before = seen[: len(seen) - len(mine)]
            if before:
                self.check_intermediate(op, step[1], before[-1])

    def name_wrong_read(self, op, key, seen, content):
        for element in seen:
            number = self.writer.get(element)
            if number is not None and self.operations[number].status == "fail":
                self.add("G1a", f"{element} of list {key} was refused", op, self.operations[number])
                return
            if element not in self.place:
                who = [self.operations[number]] if number is not None else []
                self.add("dirty read", f"{element} of list {key} is in no final list", op, *who)
                return
        if len(set(seen)) < len(seen):
            self.add("duplicated", f"list {key} was read as {seen}", op)
        else:
            self.add("incompatible order", f"list {key} is {content}, was read as {seen}", op)

    def check_intermediate(self, op, key, last):
        """G1b: what another transaction had appended when it was not done yet."""
        number = self.writer.get(last)
        if number is None or self.operations[number] is op:
            return
        appends = [s[2] for s in self.operations[number].op["steps"] if s[:2] == ["a", key]]
        if appends and appends[-1] != last:
            text = f"the last of list {key} that it read is {last} of {appends}"
            self.add("G1b", text, op, self.operations[number])

    # Dependencies

    def happened(self, number):
        op = self.operations[number]
        if op.status == "ok":
            return True
        appends = [step[2] for step in op.op["steps"] if step[0] == "a"]
        return op.status == "unknown" and any(element in self.place for element in appends)

    def dependencies(self):
        """(from, to, kind) between operations that happened."""
        for content in self.final.values():
            for first, second in zip(content, content[1:], strict=False):
                yield self.writer.get(first), self.writer.get(second), "ww"
        for number, op in enumerate(self.operations):
            if op.status != "ok":
                continue
            answers = iter(op.value["r"])
            for step in op.op["steps"]:
                if step[0] != "r":
                    continue
                seen, content = elements(next(answers)), self.final.get(step[1], [])
                # Its own appends, at the end, are no dependency.
                while seen and self.writer.get(seen[-1]) == number:
                    seen.pop()
                if seen:
                    yield self.writer.get(seen[-1]), number, "wr"
                after = len(seen)
                while after < len(content) and self.writer.get(content[after]) == number:
                    after += 1
                if after < len(content):
                    yield number, self.writer.get(content[after]), "rw"

    def times(self):
        """Edges of time through a chain of moments: (from, to, kind, new vertex count). A moment is
        the end of an operation; whoever begins later comes after all moments before."""
        count = len(self.operations)
        chains = {}
        for number, op in enumerate(self.operations):
            if op.status == "ok":
                if op.op["f"] == "txn":
                    chains.setdefault("writers", []).append((op.end, number))
                if life := self.lives.of(op):
                    chains.setdefault(life, []).append((op.end, number))
        moments = {}
        edges = []
        for name, ends in chains.items():
            ends.sort()
            kind = "real time" if name == "writers" else "node"
            moments[name] = ([end for end, _ in ends], count)
            for place, (_, number) in enumerate(ends):
                edges.append((number, count + place, kind))
                if place:
                    edges.append((count + place - 1, count + place, kind))
            count += len(ends)
        for number, op in enumerate(self.operations):
            if not self.happened(number):
                continue
            for name, since in self.after(op):
                ends, first = moments.get(name, ([], 0))
                place = last_before(ends, since)
                if place >= 0:
                    kind = "node" if name != "writers" else "barrier" if op.barrier else "real time"
                    edges.append((first + place, number, kind))
        return edges, count

    def after(self, op):
        """After which chains' moments before when an operation comes."""
        if op.status == "ok" and (life := self.lives.of(op)):
            yield life, op.begin
        if op.op["f"] == "txn":
            yield "writers", op.begin
        elif op.barrier and not self.lives.outlived(op):
            yield "writers", op.barrier

    def check_cycles(self):
        times, count = self.times()
        found = [
            (a, b, kind)
            for a, b, kind in self.dependencies()
            if a is not None and b is not None and a != b
            if self.happened(a) and self.happened(b)
        ]
        steps = (
            ("G0", {"ww"}, False),
            ("G1c", {"ww", "wr"}, False),
            ("G2", {"ww", "wr", "rw"}, False),
            ("G0-realtime", {"ww"}, True),
            ("G1c-realtime", {"ww", "wr"}, True),
            ("G2-realtime", {"ww", "wr", "rw"}, True),
        )
        for name, kinds, timed in steps:
            edges = [[] for _ in range(count)]
            kind_of = {}
            for a, b, kind in [*found, *times] if timed else found:
                if kind in kinds or kind not in ("ww", "wr", "rw"):
                    edges[a].append(b)
                    kind_of.setdefault((a, b), kind)
            circles = components(count, edges)
            for component in circles[:MOST]:
                self.name_cycle(name, component, edges, kind_of)
            if circles:
                return

    def name_cycle(self, name, component, edges, kind_of):
        cycle = shortest_cycle(component, edges)
        kinds = [kind_of[pair] for pair in zip(cycle, [*cycle[1:], cycle[0]], strict=True)]
        if name.startswith("G2") and kinds.count("rw") == 1:
            name = name.replace("G2", "G-single")
        shown = " ".join(
            f"{self.operations[v].wid}.{self.operations[v].n} -{kind}->"
            if v < len(self.operations)
            else f"-{kind}->"
            for v, kind in zip(cycle, kinds, strict=True)
        )
        members = [self.operations[v] for v in cycle if v < len(self.operations)]
        self.add(name, f"cycle: {shown} (the first again)", *members[:8])


def last_before(times, time):
    """The place of the last that is before; -1 if none is."""
    low, high = 0, len(times)
    while low < high:
        middle = (low + high) // 2
        if times[middle] < time:
            low = middle + 1
        else:
            high = middle
    return low - 1


def check(operations, final, lives):
    return Analysis(operations, final, lives).run()
