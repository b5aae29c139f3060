"""The look of the charts, and the parts of Vega-Lite that they share.

Colors are CSS variables with defaults, so that the page can show them in dark mode.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import vl_convert

from seqkd.utils import atomic

Spec = dict[str, Any]  # of Vega-Lite, or a part of one
# Color and shape by kind of model. The colors are Okabe and Ito's, which color-blind readers can tell apart; the shapes
# say the same again.
KINDS = {
    "teacher": ("#0072B2", "square"),
    "baseline": ("#6f6f6f", "diamond"),
    "student": ("#D55E00", "circle"),
    "pruned": ("#009E73", "triangle-up"),
}
COLOR: Spec = {
    "field": "kind",
    "type": "nominal",
    "title": None,
    "scale": {"domain": list(KINDS), "range": [f"var(--{kind},{color})" for kind, (color, _) in KINDS.items()]},
}
SHAPE: Spec = COLOR | {"scale": {"domain": list(KINDS), "range": [shape for _, shape in KINDS.values()]}}
INK, LINE = "var(--ink,#333)", "var(--line,#e4e4e4)"
AXIS: Spec = {"labelColor": INK, "titleColor": INK, "gridColor": LINE, "domainColor": "#8a8a8a", "tickColor": "#8a8a8a"}
CONFIG: Spec = {
    "font": "system-ui, 'Segoe UI', 'DejaVu Sans', Verdana, sans-serif",
    "background": "var(--paper,#fff)",
    "padding": 8,
    "view": {"stroke": None},
    "title": {"anchor": "start", "color": INK, "fontSize": 14, "offset": 12},
    "axis": AXIS | {"labelFontSize": 12, "titleFontSize": 12, "titleFontWeight": "normal", "labelLimit": 260},
    "legend": {"labelColor": INK, "titleColor": INK, "labelFontSize": 12, "orient": "bottom", "symbolOpacity": 1},
    "text": {"color": INK, "fontSize": 12},
    "header": {"labelColor": INK, "titleColor": INK, "labelFontSize": 12},
}
WIDTH = 560  # pixels, of the area between the axes
POINT: Spec = {"type": "point", "filled": True, "size": 80, "opacity": 1}
LABEL_GAP = 15  # pixels between two labels
ROOM = {"left": 8, "top": 8, "bottom": 8, "right": 170}  # pixels around a chart with labels at its right


def save(spec: Spec, path: Path) -> None:
    """Write a chart as SVG. It is drawn without reading any file or address."""
    svg = vl_convert.vegalite_to_svg(spec | {"config": CONFIG}, allowed_base_urls=[])
    with atomic.open_text(path) as file:
        file.write(svg + "\n")


def scatter(values: list[Spec], *, x: str, y: str, title: str) -> Spec:
    """Return labelled points over a logarithmic x; labels of points one above the other are moved apart."""
    height = 380
    span = max(value["y"] for value in values) - min(value["y"] for value in values) or 1.0
    heights = separate([value["y"] for value in values], LABEL_GAP * span / (height * 0.75))
    labelled = [
        value | {"label_y": at, "label_x": value["x"] * 1.07} for value, at in zip(values, heights, strict=True)
    ]
    scale = {"type": "log", "nice": False, "padding": 20}
    ends = {"domainMin": min(v["x"] for v in values) / 1.1, "domainMax": max(v["x"] for v in values) * 2.2}
    across = {"type": "quantitative", "title": x, "scale": scale | ends}
    across |= {"axis": {"format": "~s" if max(v["x"] for v in values) > 1000 else "~g", "tickCount": 6, "grid": False}}
    up = quantity("y", y, zero=False)
    leader = {"x": {"field": "x"} | across, "y": up, "x2": {"field": "label_x"}, "y2": {"field": "label_y"}}
    text = {"x": {"field": "label_x"} | across, "y": up | {"field": "label_y"}, "text": {"field": "label"}}
    point = {"x": {"field": "x"} | across, "y": up, "color": COLOR, "shape": SHAPE, "description": {"field": "said"}}
    layers: list[Spec] = [
        {"mark": {"type": "rule", "color": "#b5b5b5", "aria": False}, "encoding": leader},
        {"mark": {"type": "text", "align": "left", "dx": 3, "aria": False, "fontSize": 11}, "encoding": text},
        {"mark": POINT, "encoding": point},
    ]
    return layered(layers, labelled, title=title, height=height)


def separate(wanted: Sequence[float], gap: float) -> list[float]:
    """Return positions in the order of the wanted ones, a gap apart, with the least sum of squared moves."""
    order = sorted(range(len(wanted)), key=lambda index: wanted[index])
    # Pool adjacent violators on wanted - gap * number: each block is a sum and a count of values that share their mean.
    blocks: list[tuple[float, int]] = []
    for number, index in enumerate(order):
        block = (wanted[index] - number * gap, 1)
        while blocks and blocks[-1][0] / blocks[-1][1] >= block[0] / block[1]:
            below = blocks.pop()
            block = (below[0] + block[0], below[1] + block[1])
        blocks.append(block)
    means = [total / count for total, count in blocks for _ in range(count)]
    positions = [0.0] * len(wanted)
    for number, index in enumerate(order):
        positions[index] = means[number] + number * gap
    return positions


def quantity(field: str, title: str | None, *, zero: bool = True) -> Spec:
    return {"field": field, "type": "quantitative", "title": title, "scale": {"zero": zero}}


def nominal(field: str, **options: Any) -> Spec:
    return {"field": field, "type": "nominal", **options}


def layered(layers: Sequence[Spec], values: Sequence[Spec], *, title: str, height: Any) -> Spec:
    data = {"values": values}
    return {"title": title, "width": WIDTH, "height": height, "data": data, "layer": list(layers)}
