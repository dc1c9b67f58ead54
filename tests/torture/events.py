"""What happened to the cluster and when: starts, ends, faults. One JSON document a line.

Times are nanoseconds of the monotonic clock, which all processes of the machine share.
"""

import json
import threading
import time


class Events:
    def __init__(self, path):
        self.file = open(path, "a", buffering=1)
        self.lock = threading.Lock()
        self.list = []

    def add(self, what, **facts):
        event = {"t": time.monotonic_ns(), "what": what, **facts}
        with self.lock:
            self.list.append(event)
            self.file.write(json.dumps(event) + "\n")
        return event

    def of(self, *kinds, since=0):
        with self.lock:
            return [e for e in self.list if e["what"] in kinds and e["t"] >= since]

    def times(self, what):
        """Of each node: when it was started, or taken down, in order."""
        times = {}
        for event in self.of(what):
            times.setdefault(event["node"], []).append(event["t"])
        return times
