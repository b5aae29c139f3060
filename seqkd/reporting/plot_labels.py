"""Names beside the points of a plot: none covers a point, a line or another name."""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.transforms import Bbox

ANGLES = (0, 180, 90, 270, 30, 330, 150, 210, 60, 300, 120, 240)  # degrees, where a name goes first
INK, FAINT = "#333333", "#b5b5b5"
LINE = {"arrowstyle": "-", "color": FAINT, "lw": 0.8, "shrinkA": 1, "shrinkB": 4}  # from a name to its point
# Okabe and Ito's colours, told apart by colour-blind readers too; the shapes repeat what they say.
LOOKS = {
    "teacher": ("#0072B2", "s"),
    "baseline": ("#6f6f6f", "D"),
    "student": ("#D55E00", "o"),
    "pruned": ("#009E73", "^"),
}


class Mark(NamedTuple):
    """A point and its name."""

    x: float
    y: float
    name: str
    kind: str  # of LOOKS
    filled: bool = True


def spread(wanted: Sequence[float], gap: float) -> list[float]:
    """The nearest places (least squares) that keep the order of the wanted ones and a gap between neighbours."""
    order = sorted(range(len(wanted)), key=lambda index: wanted[index])
    blocks: list[tuple[float, int]] = []  # sum and number of wanted places, each less the gaps below it
    for place, index in enumerate(order):
        block = (wanted[index] - place * gap, 1)
        while blocks and blocks[-1][0] / blocks[-1][1] >= block[0] / block[1]:
            below = blocks.pop()
            block = (below[0] + block[0], below[1] + block[1])
        blocks.append(block)
    flat = [total / count for total, count in blocks for _ in range(count)]
    found = [0.0] * len(wanted)
    for place, index in enumerate(order):
        found[index] = flat[place] + place * gap
    return found


def pixel(axes: Axes, mark: Mark) -> tuple[float, float]:
    axes.autoscale_view()  # the limits are otherwise settled only when drawn
    x, y = axes.transData.transform((mark.x, mark.y))
    return float(x), float(y)


def column(axes: Axes, marks: Sequence[Mark], *, x: float, gap: float = 13) -> list[Bbox]:
    """Names in a column that begins at x (pixels), each led to its point; the boxes they fill."""
    wanted = [pixel(axes, mark)[1] for mark in marks]
    boxes = []
    for mark, y in zip(marks, spread(wanted, gap), strict=True):
        text = axes.annotate(
            mark.name,
            (mark.x, mark.y),
            xytext=tuple(axes.transAxes.inverted().transform((x, y))),
            textcoords="axes fraction",
            va="center",
            color=LOOKS[mark.kind][0],
            annotation_clip=False,
            arrowprops=LINE | {"relpos": (0, 0.5)},
        )
        boxes.append(text.get_window_extent())
    return boxes


def beside(axes: Axes, marks: Sequence[Mark]) -> None:
    """Names in a column right of the axes."""
    column(axes, marks, x=axes.get_window_extent().x1 + 14)


def around(axes: Axes, marks: Sequence[Mark]) -> None:
    """The name of each point beside it, where it covers no point, no line and no other name.

    Three points and more above each other get a column of names.
    """
    room = axes.get_window_extent()
    points = {mark: pixel(axes, mark) for mark in marks}
    taken = [_box(x, y, 11, 11) for x, y in points.values()] + _lines(axes)
    alone = []
    for x in dict.fromkeys(mark.x for mark in marks):
        stack = [mark for mark in marks if mark.x == x]
        if len(stack) > 2:
            taken += column(axes, stack, x=points[stack[0]][0] + 24)
        else:
            alone += stack
    for mark in sorted(alone, key=lambda mark: -mark.y):
        text = axes.annotate(
            mark.name,
            (mark.x, mark.y),
            xytext=(0, 0),
            textcoords="offset points",
            va="center",
            ha="center",
            color=LOOKS[mark.kind][0],
            arrowprops=LINE,
        )
        size = text.get_window_extent()
        x, y = points[mark]
        dx, dy = _free(_box(x, y, size.width, size.height), room, taken)
        text.xyann = dx, dy
        if text.arrow_patch is not None:
            text.arrow_patch.set_visible(abs(dx) - size.width / 2 > 14 or abs(dy) > 18)
        taken.append(_box(x + dx, y + dy, size.width, size.height))


def _lines(axes: Axes) -> list[Bbox]:
    """Small boxes along every line of the axes."""
    boxes = []
    for line in axes.lines:
        ends = axes.transData.transform(line.get_xydata())
        for (x0, y0), (x1, y1) in pairwise(ends):
            steps = int(math.hypot(x1 - x0, y1 - y0) / 4) + 1
            boxes += [_box(x0 + (x1 - x0) * it / steps, y0 + (y1 - y0) * it / steps, 2, 2) for it in range(steps + 1)]
    return boxes


def _box(x: float, y: float, width: float, height: float) -> Bbox:
    return Bbox.from_bounds(x - width / 2, y - height / 2, width, height)


def _free(label: Bbox, room: Bbox, taken: Sequence[Bbox]) -> tuple[float, float]:
    """How far from its point (pixels) a name whose box is around it finds a place; right of it for want of one."""
    for distance in range(9, 200, 4):
        for angle in ANGLES:
            cosine, sine = math.cos(math.radians(angle)), math.sin(math.radians(angle))
            beside = math.copysign(label.width / 2, cosine) if abs(cosine) > 0.1 else 0.0
            dx, dy = cosine * distance + beside, sine * distance
            box = label.translated(dx, dy).padded(1)
            inside = box.x0 >= room.x0 and box.x1 <= room.x1 + 4 and box.y0 >= room.y0 and box.y1 <= room.y1 + 8
            if inside and not any(box.overlaps(other) for other in taken):
                return dx, dy
    return 9 + label.width / 2, 0.0
