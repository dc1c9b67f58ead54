"""A picture of a run: acknowledged writes a second on each node, and the faults as bands. Plain SVG."""

from xml.sax.saxutils import escape

WIDTH, LEFT, RIGHT = 1500, 60, 20
STRIP, GAP, LABELS = 46, 4, 62
# A row shows so many seconds.
ROW = 120
COLOURS = ("#1f6f8b", "#99582a", "#386641", "#6a4c93", "#b5525c")
BANDS = {
    "kill-daemon": "#d62828",
    "restart-all": "#7f0000",
    "kill-in-commit": "#e85d04",
    "kill-in-checkpoint": "#f48c06",
    "kill-in-partition": "#9d0208",
    "stop-daemon": "#4895ef",
    "end-daemon": "#90be6d",
    "kill-application": "#ffb703",
    "stop-application": "#ffd166",
    "kill-in-recovery": "#c1121f",
    "stop-all": "#0077b6",
    "lossy-network": "#b08968",
    "switchovers": "#43aa8b",
    "disk-full": "#577590",
    "rot-while-stopped": "#7f5539",
    "rot-while-running": "#7f5539",
    "wiped": "#344e41",
    "guest": "#588157",
    "demoted": "#588157",
    "removed": "#344e41",
    "other-version": "#118ab2",
}
PARTITION = "#7b2cbf"


def colour(kind):
    return BANDS.get(kind, PARTITION)


def row(report, nodes, first, top, most):
    """The strips of one stretch of time, as SVG elements."""
    scale = (WIDTH - LEFT - RIGHT) / ROW
    height = len(nodes) * (STRIP + GAP)
    x = lambda second: LEFT + (second - first) * scale  # noqa: E731
    parts = []
    level = 0
    for kind, begin, end in report.bands:
        if end < first or begin >= first + ROW:
            continue
        left, right = max(x(begin), LEFT), min(max(x(end), x(begin) + 2), WIDTH - RIGHT)
        parts.append(
            f'<rect x="{left:.1f}" y="{top + LABELS}" width="{right - left:.1f}" '
            f'height="{height}" fill="{colour(kind)}" opacity="0.22"/>'
        )
        level = (level + 1) % 5
        parts.append(
            f'<text x="{left:.1f}" y="{top + 12 + level * 11}" class="k" fill="{colour(kind)}">'
            f"{escape(kind)}</text>"
        )
    for place, node in enumerate(nodes):
        base = top + LABELS + place * (STRIP + GAP) + STRIP
        seconds = report.throughput.get(node, {})
        points = [f"{LEFT},{base}"]
        for second in range(first, first + ROW):
            y = base - seconds.get(second, 0) / most * STRIP
            points += [f"{x(second):.1f},{y:.1f}", f"{x(second + 1):.1f},{y:.1f}"]
        points.append(f"{WIDTH - RIGHT},{base}")
        fill = COLOURS[place % len(COLOURS)]
        parts.append(f'<polygon points="{" ".join(points)}" fill="{fill}" opacity="0.85"/>')
        parts.append(f'<text x="8" y="{base - 4}" class="n" fill="{fill}">{escape(node)}</text>')
    axis = top + LABELS + height
    for second in range(first, first + ROW + 1, 10):
        parts.append(f'<text x="{x(second):.0f}" y="{axis + 10}" class="t">{second} s</text>')
    return parts


def draw(report, title):
    nodes = sorted(report.throughput)
    last = max((second for each in report.throughput.values() for second in each), default=0)
    most = max((n for each in report.throughput.values() for n in each.values()), default=1)
    rows = last // ROW + 1
    height = LABELS + len(nodes) * (STRIP + GAP) + 24
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {rows * height + 40}" '
        'font-family="sans-serif">',
        "<style>.k{font-size:9px}.t{font-size:9px;fill:#666;text-anchor:middle}"
        ".n{font-size:13px;font-weight:bold}.h{font-size:15px}</style>",
        '<rect width="100%" height="100%" fill="#fff"/>',
        f'<text x="8" y="22" class="h">{escape(title)}; a full strip is {most} '
        "acknowledged writes a second</text>",
    ]
    for number in range(rows):
        parts += row(report, nodes, number * ROW, 34 + number * height, most)
    return "\n".join([*parts, "</svg>", ""])
