"""What the rows of a workload's log do, played back one by one. `apply` answers what contradicts.

`expected` is what a reader of this moment must have seen.
"""

from workloads import ACCOUNTS, COUNTERS, CUSTOMERS, MONEY, REGISTERS


class BankModel:
    """Sums: money is neither made nor lost."""

    def __init__(self):
        self.state = [MONEY] * ACCOUNTS

    def apply(self, a, b, c):
        self.state[a] -= c
        self.state[b] += c

    def expected(self):
        return {"v": list(self.state)}


class CounterModel:
    """Each number once, and none left out."""

    def __init__(self):
        self.state = [0] * COUNTERS

    def apply(self, a, b, c):
        self.state[a] += 1
        if b != self.state[a]:
            return f"it took number {b} of counter {a}, {self.state[a]} was next"
        return None

    def expected(self):
        return {"v": list(self.state)}


class RegisterModel:
    """Each write replaced the value that was there: no update is lost."""

    def __init__(self):
        self.state = [0] * REGISTERS

    def apply(self, a, b, c):
        there, self.state[a] = self.state[a], c
        if there != b:
            return f"it replaced {b} in register {a}, where {there} was: a lost update"
        return None

    def expected(self):
        return {"v": list(self.state)}


class OrdersModel:
    """Kept totals equal counted ones, in each snapshot."""

    def __init__(self):
        self.state = [[0, 0] for _ in range(CUSTOMERS)]

    def apply(self, a, b, c):
        self.state[a][0] += c
        self.state[a][1] += b

    def expected(self):
        now = [list(each) for each in self.state]
        return {"v": now, "counted": now}


MODELS = {
    "bank": BankModel,
    "counter": CounterModel,
    "register": RegisterModel,
    "orders": OrdersModel,
}
