"""A flame graph as SVG, from what `perf script -F comm,ip,sym` prints.

    perf record -F 1499 --call-graph dwarf,16384 -p PID -o node.data sleep 5
    perf script --no-inline -i node.data -F comm,ip,sym | bench/flame.py TITLE > docs/NAME.svg

Threads are at the bottom, what they call is above; a box is as wide as its part of the processor
time. Blue: the kernel; orange: this program's own code; green: Raft's library; grey: the rest.
"""

import re
import sys
from html import escape

WIDTH, ROW, FONT = 1200, 15, 10
# Part of the whole below which a box is left out.
LEAST = 0.004
COLOURS = {"kernel": "#8fb4d9", "ours": "#f0a35e", "raft": "#9cc78b", "rest": "#d9d5cf"}
# Every thread's beginning, and the machinery of tasks: says nothing, and is in every stack.
NOISE = re.compile(
    r"^(tokio::runtime|std::(sys|panicking|rt|thread)|__rust_|core::ops::function|"
    r"core::future|<core::future|<alloc::|alloc::|start_thread|clone3|entry_SYSCALL|"
    r"do_syscall_64|__x64_sys|<tracing::instrument|<std::|\[unknown\]|futures_util|<futures_util)"
)


def stacks(lines):
    """Each sample's frames, outermost first, with what kind they are."""
    thread, frames = None, []
    for line in lines:
        if not line.strip():
            if thread:
                yield [(thread, "rest"), *reversed(frames)]
            thread, frames = None, []
        elif thread is None:
            # Of several threads of a kind: fuser-0, fuser-1.
            thread = re.sub(r"-\d+$", "", line.strip())
        else:
            address, _, name = line.strip().partition(" ")
            frame = (short(name), kind(name, address))
            if not NOISE.match(name) and (not frames or frames[-1] != frame):
                frames.append(frame)
    if thread:
        yield [(thread, "rest"), *reversed(frames)]


def kind(name, address):
    if len(address) == 16 and address.startswith("ffff"):
        return "kernel"
    if "litefs_py" in name:
        return "ours"
    return "raft" if "openraft" in name else "rest"


def short(name):
    """Without generics, paths of traits, and closures."""
    name = name.replace("{{closure}}", "").replace("{closure#0}", "")
    while (bare := re.sub(r"<[^<>]*>", "", name)) != name:
        name = bare
    parts = [part for part in name.replace("&", "").split("::") if part]
    return "::".join(parts[-2:]).replace("litefs_py::", "") or "(a closure)"


class Box:
    def __init__(self):
        self.samples, self.above = 0, {}

    def add(self, frames):
        self.samples += 1
        if frames:
            self.above.setdefault(frames[0], Box()).add(frames[1:])

    def height(self, least):
        tall = [box.height(least) for box in self.above.values() if box.samples >= least]
        return 1 + max(tall, default=0)


def drawn(box, left, level, height, total):
    """The boxes above this one, from the left."""
    for (name, what), above in sorted(box.above.items()):
        if above.samples >= LEAST * total:
            width = WIDTH * above.samples / total
            top = height - ROW * level
            percent = f"{100 * above.samples / total:.1f} %"
            text = name[: max(0, int(width / (0.58 * FONT)) - 1)]
            yield (
                f'<g><title>{escape(name)}: {percent}</title><rect x="{left:.1f}" y="{top}" '
                f'width="{width:.1f}" height="{ROW - 1}" fill="{COLOURS[what]}"/>'
                + (f'<text x="{left + 2:.1f}" y="{top + 11}">{escape(text)}</text>' if len(text) > 2 else "")
                + "</g>"
            )  # fmt: skip
            yield from drawn(above, left, level + 1, height, total)
        left += WIDTH * above.samples / total


def main():
    root = Box()
    for frames in stacks(sys.stdin):
        root.add(frames)
    total = root.samples
    height = ROW * root.height(LEAST * total) + 30
    print(
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
        f'font-family="monospace" font-size="{FONT}"><rect width="100%" height="100%" fill="white"/>'
        f'<text x="4" y="14" font-size="13">{escape(sys.argv[1])}</text>'
    )
    print("\n".join(drawn(root, 0, 1, height - 4, total)))
    print("</svg>")


if __name__ == "__main__":
    main()
