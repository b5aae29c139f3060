"""Labels beside the points of a plot, placed so that none covers a point, a line or another label."""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.text import Annotation
from matplotlib.transforms import Bbox

ANGLES = (0, 180, 90, 270, 30, 330, 150, 210, 60, 300, 120, 240)  # degrees: sides of a point in order of preference
TEXT_COLOR, LINE_COLOR = "#333333", "#b5b5b5"
LEADER = {"arrowstyle": "-", "color": LINE_COLOR, "lw": 0.8, "shrinkA": 1, "shrinkB": 4}  # from a label to its point
# Color and marker by kind of model. The colors are Okabe and Ito's, which color-blind readers can tell apart; the
# markers say the same again.
KIND_STYLES = {
    "teacher": ("#0072B2", "s"),
    "baseline": ("#6f6f6f", "D"),
    "student": ("#D55E00", "o"),
    "pruned": ("#009E73", "^"),
}


class Point(NamedTuple):
    """A labelled point, in data coordinates."""

    x: float
    y: float
    label: str
    kind: str  # a key of KIND_STYLES
    filled: bool = True


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


def pixel(axes: Axes, point: Point) -> tuple[float, float]:
    """Return where the point is drawn, in pixels."""
    axes.autoscale_view()  # otherwise the limits are computed only when the figure is drawn
    x, y = axes.transData.transform((point.x, point.y))
    return float(x), float(y)


def label_column(axes: Axes, points: Sequence[Point], *, x: float, gap: float = 13) -> list[Bbox]:
    """Write the labels in a column that begins at x (pixels), each with a line to its point; return their boxes."""
    heights = [pixel(axes, point)[1] for point in points]
    boxes = []
    for point, y in zip(points, separate(heights, gap), strict=True):
        text = axes.annotate(
            point.label,
            (point.x, point.y),
            xytext=tuple(axes.transAxes.inverted().transform((x, y))),
            textcoords="axes fraction",
            va="center",
            color=KIND_STYLES[point.kind][0],
            annotation_clip=False,
            arrowprops=LEADER | {"relpos": (0, 0.5)},
        )
        boxes.append(text.get_window_extent())
    return boxes


def label_right(axes: Axes, points: Sequence[Point]) -> None:
    """Write the labels in a column right of the axes."""
    label_column(axes, points, x=axes.get_window_extent().x1 + 14)


def label_around(axes: Axes, points: Sequence[Point]) -> None:
    """Write the label of each point beside it, where it covers no point, no line and no other label.

    Three or more points at the same x get a column of labels.
    """
    pixels = {point: pixel(axes, point) for point in points}
    occupied = [_box(x, y, 11, 11) for x, y in pixels.values()] + _line_boxes(axes)
    single = []
    for x in dict.fromkeys(point.x for point in points):
        stack = [point for point in points if point.x == x]
        if len(stack) > 2:
            occupied += label_column(axes, stack, x=pixels[stack[0]][0] + 24)
        else:
            single += stack
    for point in sorted(single, key=lambda point: -point.y):
        occupied.append(_label_beside(axes, point, occupied))


def _label_beside(axes: Axes, point: Point, occupied: Sequence[Bbox]) -> Bbox:
    """Write the label where its box overlaps no occupied one, with a line where it is far away; return the box."""
    text: Annotation = axes.annotate(
        point.label,
        (point.x, point.y),
        xytext=(0, 0),
        textcoords="offset points",
        va="center",
        ha="center",
        color=KIND_STYLES[point.kind][0],
        arrowprops=LEADER,
    )
    size, (x, y) = text.get_window_extent(), pixel(axes, point)
    dx, dy = _free_offset(_box(x, y, size.width, size.height), axes.get_window_extent(), occupied)
    text.xyann = dx, dy
    if text.arrow_patch is not None:
        text.arrow_patch.set_visible(abs(dx) - size.width / 2 > 14 or abs(dy) > 18)
    return _box(x + dx, y + dy, size.width, size.height)


def _line_boxes(axes: Axes) -> list[Bbox]:
    """Return small boxes along every line of the axes."""
    boxes = []
    for line in axes.lines:
        ends = axes.transData.transform(line.get_xydata())
        for (x0, y0), (x1, y1) in pairwise(ends):
            count = int(math.hypot(x1 - x0, y1 - y0) / 4) + 1
            boxes += [_box(x0 + (x1 - x0) * n / count, y0 + (y1 - y0) * n / count, 2, 2) for n in range(count + 1)]
    return boxes


def _box(x: float, y: float, width: float, height: float) -> Bbox:
    """Return the box of this size around a point."""
    return Bbox.from_bounds(x - width / 2, y - height / 2, width, height)


def _free_offset(label: Bbox, inside: Bbox, occupied: Sequence[Bbox]) -> tuple[float, float]:
    """Return the smallest offset (pixels) that moves a label off its point to a free spot inside the axes.

    label: its box when centered on the point. Where no spot is free, the label goes to the right of the point.
    """
    for distance in range(9, 200, 4):
        for angle in ANGLES:
            cosine, sine = math.cos(math.radians(angle)), math.sin(math.radians(angle))
            half_width = math.copysign(label.width / 2, cosine) if abs(cosine) > 0.1 else 0.0
            dx, dy = cosine * distance + half_width, sine * distance
            box = label.translated(dx, dy).padded(1)
            fits = box.x0 >= inside.x0 and box.x1 <= inside.x1 + 4 and box.y0 >= inside.y0 and box.y1 <= inside.y1 + 8
            if fits and not any(box.overlaps(other) for other in occupied):
                return dx, dy
    return 9 + label.width / 2, 0.0
