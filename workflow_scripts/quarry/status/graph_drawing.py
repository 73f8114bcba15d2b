"""Small directed graphs as SVG: layers from top to bottom, without a program beside (graphviz is not everywhere).

Sugiyama, Tagawa and Toda, IEEE Transactions on Systems, Man, and Cybernetics 11 (1981) 109: longest-path layers, and the order in
a layer by the mean place of the neighbours.
"""

from __future__ import annotations

from html import escape

from quarry.status.job_graph import Node, Picture

CHARACTER, LINE, PAD = 8.0, 17.0, 9.0
"""Width of a character, height of a line and distance from text to frame, in pixels at 13 px."""
GAP_X, GAP_Y, MARGIN, TITLE = 26.0, 44.0, 24.0, 34.0
SWEEPS = 8
COLOURS = {"inside": ("#dbeafe", "#1d4ed8"), "to do": ("#fef3c7", "#b45309"), "outside": ("#f1f5f9", "#94a3b8")}
"""Fill and frame; words say the same, for readers who do not tell these colours."""


def svg_of(picture: Picture) -> str:
    """Return the picture as SVG text; the same picture gives the same text."""
    layers = _ordered(picture, _layers(picture))
    size = {node: _size(lines) for node, lines in picture.nodes.items()}
    widths = [sum(size[node][0] for node in layer) + GAP_X * (len(layer) - 1) for layer in layers]
    width = max([*widths, CHARACTER * len(picture.title)], default=0.0) + 2 * MARGIN
    place: dict[Node, tuple[float, float]] = {}
    y = TITLE + MARGIN
    for layer, total in zip(layers, widths, strict=True):
        x, height = (width - total) / 2, max(size[node][1] for node in layer)
        for node in layer:
            place[node] = x, y + (height - size[node][1]) / 2
            x += size[node][0] + GAP_X
        y += height + GAP_Y
    height = y - GAP_Y + MARGIN
    back = 2 * MARGIN if picture.back else 0.0
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width + back:.0f} {height:.0f}" width="{width + back:.0f}" '
        f'height="{height:.0f}" font-family="Helvetica, Arial, sans-serif" font-size="13">',
        f"<title>{escape(picture.title)}</title>",
        '<defs><marker id="arrow" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        '<path d="M0,0 L8,4 L0,8 z" fill="#475569"/></marker></defs>',
        f'<rect width="100%" height="100%" fill="#ffffff"/><text x="{MARGIN:.0f}" y="{MARGIN:.0f}" font-weight="bold">'
        f"{escape(picture.title)}</text>",
    ]
    for start, end in sorted(picture.edges):
        parts.append(_arrow(_bottom(place[start], size[start]), _top(place[end], size[end])))
    for start, end in sorted(picture.back):
        parts.append(
            _arrow_back(_right(place[start], size[start]), _right(place[end], size[end]), width + back - MARGIN)
        )
    if picture.back:
        parts.append(
            f'<text x="{MARGIN:.0f}" y="{MARGIN + LINE:.0f}" fill="#475569">dashed: into the next iteration</text>'
        )
    parts += [_box(place[node], size[node], node, lines) for node, lines in sorted(picture.nodes.items())]
    return "\n".join([*parts, "</svg>"]) + "\n"


def _layers(picture: Picture) -> dict[Node, int]:
    layer = dict.fromkeys(picture.nodes, 0)
    for _ in picture.nodes:
        moved = {end: layer[start] + 1 for start, end in sorted(picture.edges) if layer[end] <= layer[start]}
        if not moved:
            break
        layer |= moved
    # A source stands just above its first reader, not at the top.
    for node in picture.nodes:
        readers = [layer[end] for start, end in picture.edges if start == node]
        if readers and not any(end == node for _, end in picture.edges):
            layer[node] = min(readers) - 1
    return layer


def _ordered(picture: Picture, layer: dict[Node, int]) -> list[list[Node]]:
    levels = sorted(set(layer.values()))
    rows = [sorted(node for node in layer if layer[node] == level) for level in levels]
    neighbours = {node: [a if b == node else b for a, b in sorted(picture.edges) if node in (a, b)] for node in layer}
    for _ in range(SWEEPS):
        place = {node: (k + 0.5) / len(row) for row in rows for k, node in enumerate(row)}
        for row in rows:
            row.sort(key=lambda node: (_mean([place[other] for other in neighbours[node]], place[node]), node))
    return rows


def _mean(values: list[float], otherwise: float) -> float:
    return sum(values) / len(values) if values else otherwise


def _size(lines: list[str]) -> tuple[float, float]:
    return CHARACTER * max(map(len, lines)) + 2 * PAD, LINE * len(lines) + 2 * PAD - 4


def _bottom(place: tuple[float, float], size: tuple[float, float]) -> tuple[float, float]:
    return place[0] + size[0] / 2, place[1] + size[1]


def _top(place: tuple[float, float], size: tuple[float, float]) -> tuple[float, float]:
    return place[0] + size[0] / 2, place[1]


def _right(place: tuple[float, float], size: tuple[float, float]) -> tuple[float, float]:
    return place[0] + size[0], place[1] + size[1] / 2


def _arrow(start: tuple[float, float], end: tuple[float, float]) -> str:
    bend = max(18.0, (end[1] - start[1]) / 2)
    return _curve(start, (start[0], start[1] + bend), (end[0], end[1] - bend), end)


def _arrow_back(start: tuple[float, float], end: tuple[float, float], far: float) -> str:
    return _curve(start, (far, start[1]), (far, end[1]), end, ' stroke-dasharray="5 4"')


def _curve(*points: tuple[float, float] | str) -> str:
    """Return a cubic curve from the first to the fourth point; what follows are attributes."""
    start, *others = (f"{point[0]:.1f},{point[1]:.1f}" for point in points[:4] if isinstance(point, tuple))
    joined, more = " ".join(others), "".join(point for point in points[4:] if isinstance(point, str))
    return (
        f'<path d="M{start} C{joined}" fill="none" stroke="#475569" stroke-width="1.2"{more} marker-end="url(#arrow)"/>'
    )


def _box(place: tuple[float, float], size: tuple[float, float], node: Node, lines: list[str]) -> str:
    kind = "outside" if node.outside else "to do" if any("to do" in line for line in lines) else "inside"
    fill, frame = COLOURS[kind]
    x, y, bold = place[0] + size[0] / 2, place[1] + PAD + 10, "" if node.outside else ' font-weight="bold"'
    texts = "".join(
        f'<text x="{x:.1f}" y="{y + LINE * k:.1f}" text-anchor="middle"{bold * (k == 0)}>{escape(line)}</text>'
        for k, line in enumerate(lines)
    )
    return (
        f'<g><rect x="{place[0]:.1f}" y="{place[1]:.1f}" width="{size[0]:.1f}" height="{size[1]:.1f}" rx="6" fill="{fill}" '
        f'stroke="{frame}"/>{texts}</g>'
    )
