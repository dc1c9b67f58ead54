"""The samples of a soak as one SVG: a chart for each measure, a line for each node."""

WIDTH, HEIGHT, LEFT, TOP, GAP = 900, 120, 70, 40, 46
COLOURS = ["#1b6ca8", "#c8553d", "#4f772d", "#8e5ea2", "#555555"]


def points(rows, name, seconds, most):
    for row in rows:
        x = LEFT + WIDTH * row["seconds"] / seconds
        yield f"{x:.1f},{HEIGHT - HEIGHT * row[name] / most:.1f}"


def plot(samples, measures):
    nodes = sorted({row["node"] for row in samples})
    seconds = max(row["seconds"] for row in samples) or 1
    height = TOP + len(measures) * (HEIGHT + GAP)
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH + LEFT + 20}" height="{height}" '
        'font-family="sans-serif" font-size="12">',
        '<rect width="100%" height="100%" fill="white"/>',
    ]
    for number, node in enumerate(nodes):
        colour = COLOURS[number % len(COLOURS)]
        out.append(f'<text x="{LEFT + 60 * number}" y="18" fill="{colour}">{node}</text>')
    for number, measure in enumerate(measures):
        most = max(row[measure.name] for row in samples) or 1
        out.append(f'<g transform="translate(0,{TOP + number * (HEIGHT + GAP) + 14})">')
        out.append(f'<text x="{LEFT}" y="-4">{measure.label}</text>')
        for part in (0.0, 0.5, 1.0):
            y = HEIGHT - HEIGHT * part
            value = f"{most * part / measure.scale:.4g} {measure.unit}".strip()
            out.append(f'<path d="M{LEFT} {y}h{WIDTH}" stroke="#ddd"/>')
            out.append(
                f'<text x="{LEFT - 6}" y="{y + 4}" text-anchor="end" fill="#555">{value}</text>'
            )
        # The thirds that are compared.
        for third in (1, 2):
            x = LEFT + WIDTH * third / 3
            out.append(f'<path d="M{x:.0f} 0v{HEIGHT}" stroke="#bbb" stroke-dasharray="4"/>')
        for at, node in enumerate(nodes):
            rows = [row for row in samples if row["node"] == node]
            line = " ".join(points(rows, measure.name, seconds, most))
            colour = COLOURS[at % len(COLOURS)]
            out.append(
                f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="1.2"/>'
            )
        out.append(
            f'<text x="{LEFT + WIDTH}" y="{HEIGHT + 14}" text-anchor="end">{seconds:.0f} s</text>'
        )
        out.append("</g>")
    return "\n".join([*out, "</svg>", ""])
