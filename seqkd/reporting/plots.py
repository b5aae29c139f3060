"""The plots of the report, as SVG whose bytes depend on nothing but the numbers."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator, PercentFormatter

from seqkd.config.schema import Params
from seqkd.reporting import plot_labels, results
from seqkd.reporting.plot_labels import Mark
from seqkd.reporting.results import Audit, Results, Scored, Speed
from seqkd.training.curve import Epoch
from seqkd.utils import atomic

STYLE: dict[Any, Any] = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans", "Verdana"],  # of nearly the same widths; the reader's browser has one of them
    "font.size": 9.5,
    "text.color": plot_labels.INK,
    "axes.edgecolor": "#8a8a8a",
    "axes.labelcolor": plot_labels.INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.titlepad": 10,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#ececec",
    "xtick.color": plot_labels.INK,
    "ytick.color": plot_labels.INK,
    "xtick.minor.size": 0,
    "ytick.minor.size": 0,
    "svg.hashsalt": "seqkd",
    "svg.fonttype": "none",
}


def kind(params: Params, model: str) -> str:
    if model in params.pruned:
        return "pruned"
    return "baseline" if model == "baseline" else params.role(model)


def save(figure: Figure, path: Path) -> None:
    """SVG, or what the name's ending says."""
    shape = path.suffix[1:]
    with atomic.atomic_write(path) as partial, mpl.rc_context(STYLE):
        figure.savefig(partial, format=shape, dpi=160, metadata={"Date": None} if shape == "svg" else None)


def _figure(width: float, height: float, **margins: float) -> Figure:
    """width, height: inches; margins: shares of them. 72 dots an inch: a pixel is a point, so names stay in place."""
    figure = Figure(figsize=(width, height), dpi=72, facecolor="white")
    FigureCanvasAgg(figure)
    figure.subplots_adjust(**margins)
    return figure


def _scatter(axes: Axes, marks: Iterable[Mark]) -> None:
    for mark in marks:
        colour, shape = plot_labels.LOOKS[mark.kind]
        inside = colour if mark.filled else "white"
        axes.plot(mark.x, mark.y, shape, ms=7, mfc=inside, mec=colour, mew=1.4, zorder=3, clip_on=False)


def _ticks(axes: Axes, values: Sequence[float], *, side: str, shape: Callable[[float], str]) -> None:
    """A logarithmic axis with a few round ticks."""
    low, high = min(values) / 1.15, max(values) * 1.15
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for steps in ((1, 2, 5), (1, 1.5, 2, 3, 4, 5, 7), (1, 1.2, 1.4, 1.6, 1.8, 2, 2.5, 3, 3.5, 4, 4.5, 5, 6, 7, 8, 9)):
        found = [step * 10.0**power for power in powers for step in steps if low <= step * 10.0**power <= high]
        if len(found) > 3:
            break
    axis = axes.xaxis if side == "x" else axes.yaxis
    axis.set_major_locator(FixedLocator(found))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: shape(value)))


def curves(params: Params, found: Mapping[str, Sequence[Epoch]]) -> Figure:
    """Dev perplexity against epochs; a tuned model's curve starts from the model it starts from."""
    scratch = [model for model in params.models if model not in params.finetune]
    tuned = [model for model in params.models if model in params.finetune]
    names = _inches(params.models)
    width = 0.7 + 2 * (3.3 + names)
    figure = _figure(width, 4.3, left=0.7 / width, right=1 - names / width, bottom=0.16, top=0.9)
    figure.subplots_adjust(wspace=(names + 0.3) / 3.2)
    titles = ("From random weights", "From a trained model (epoch 0)")
    for axes, models, title in zip(figure.subplots(1, 2), (scratch, tuned), titles, strict=True):
        ends, values = [], []
        for model in models:
            row = params.finetune.get(model) or params.distill.get(model)
            before = found[params.finetune[model].init_from][-1:] if model in params.finetune else []
            points = [(0, it.dev_perplexity) for it in before] + [(it.epoch, it.dev_perplexity) for it in found[model]]
            ends.append(Mark(*points[-1], model, kind(params, model)))
            values += [value for _, value in points]
            dashes = (0, (4, 2)) if row and row.alpha else "-"
            axes.plot(
                *zip(*points, strict=True),
                color=plot_labels.LOOKS[ends[-1].kind][0],
                lw=1.6,
                ls=dashes,
                marker=".",
                ms=4,
            )
        axes.set_yscale("log")
        axes.set_title(title)
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        if values:
            _ticks(axes, values, side="y", shape="{:g}".format)
        plot_labels.beside(axes, ends)
    figure.axes[0].set_ylabel("dev perplexity of the human targets")
    figure.text(0.7 / width, 0.015, "dashed: with Word-KD in the loss", fontsize=8.5)
    return figure


def _inches(names: Iterable[str]) -> float:
    """Room for the longest name with the line that leads to it."""
    return 0.35 + 0.088 * max(map(len, names))


def beams(params: Params, scored: Mapping[str, Scored]) -> Figure:
    """BLEU greedy against BLEU with the widest beam: how much of the beam a model still needs."""
    models, (low, high) = params.models[::-1], _ends(params)
    figure = _figure(8.2, 1.3 + 0.34 * len(models), left=0.27, right=0.95, bottom=0.15, top=0.86)
    axes = figure.subplots()
    for place, model in enumerate(models):
        found, look = (scored[model].bleu(low), scored[model].bleu(high)), kind(params, model)
        axes.plot(found, (place, place), color=plot_labels.LOOKS[look][0], lw=2, alpha=0.5, zorder=2)
        _scatter(axes, [Mark(found[0], place, model, look, False), Mark(found[1], place, model, look)])
        for value in set(found):
            side = 1 if value == max(found) else -1
            axes.annotate(
                f"{value:.1f}",
                (value, place),
                xytext=(8 * side, 0),
                textcoords="offset points",
                va="center",
                ha="left" if side > 0 else "right",
                fontsize=8.5,
            )
    axes.set_yticks(range(len(models)), models)
    for label, model in zip(axes.get_yticklabels(), models, strict=True):
        label.set_color(plot_labels.LOOKS[kind(params, model)][0])
    axes.set_xlabel("BLEU")
    axes.margins(x=0.12)
    axes.grid(axis="x", visible=False)
    axes.set_title(f"BLEU, {results.named(low)} (hollow) and {results.named(high)} (filled)")
    return figure


def _ends(params: Params) -> tuple[int, int]:
    return min(params.evaluate.beams), max(params.evaluate.beams)


def size(params: Params, scored: Mapping[str, Scored]) -> Figure:
    """BLEU with the widest beam against the parameters that are not zero."""
    beam = _ends(params)[1]
    figure = _figure(8.2, 5.2, left=0.09, right=0.97, bottom=0.11, top=0.9)
    axes = figure.subplots()
    models = [*params.models, *params.pruned]
    marks = [Mark(scored[it].remaining, scored[it].bleu(beam), it, kind(params, it)) for it in models]
    chain = sorted(mark[:2] for mark in marks if mark.kind == "pruned" or mark.name == params.prune.model)
    axes.plot(*zip(*chain, strict=True), color=plot_labels.LOOKS["pruned"][0], lw=1.2, alpha=0.5)
    _scatter(axes, marks)
    axes.set_xscale("log")
    sizes = [mark.x for mark in marks]
    axes.set_xlim(min(sizes) / 1.3, max(sizes) * 1.6)  # room for a column of names between two sizes
    axes.margins(y=0.12)
    _ticks(axes, sizes, side="x", shape=lambda value: f"{value / 1e6:g}M")
    axes.set_xlabel("parameters that are not zero (logarithmic)")
    axes.set_ylabel(f"BLEU, {results.named(beam)}")
    axes.set_title("BLEU against size")
    plot_labels.around(axes, marks)
    return figure


def pruning(params: Params, scored: Mapping[str, Scored]) -> Figure:
    """BLEU of the pruned model against the share of its weights that is gone."""
    figure = _figure(8.2, 4.2, left=0.09, right=0.8, bottom=0.13, top=0.88)
    axes = figure.subplots()
    shares = {params.prune.model: 0.0, **params.pruned}
    low, high = _ends(params)
    ends = []
    for model in ("teacher", "baseline"):
        value = scored[model].bleu(high)
        axes.axhline(value, color=plot_labels.LOOKS[model][0], lw=1.2, ls=(0, (4, 3)))
        ends.append(Mark(1.0, value, f"{model}, {results.named(high)}", model))
    for beam in dict.fromkeys((low, high)):
        marks = [Mark(share, scored[it].bleu(beam), it, "pruned", beam == high) for it, share in shares.items()]
        axes.plot([mark.x for mark in marks], [mark.y for mark in marks], color=plot_labels.LOOKS["pruned"][0], lw=1.6)
        _scatter(axes, marks)
        ends.append(marks[-1]._replace(name=f"pruned, {results.named(beam)}"))
    axes.set_xlim(-0.03, 1.0)
    axes.margins(y=0.12)
    axes.set_xticks(sorted(set(shares.values())), [f"{share * 100:g}" for share in sorted(set(shares.values()))])
    axes.set_xlabel("weights pruned, %")
    axes.set_ylabel("BLEU")
    axes.set_title(f"BLEU of {params.prune.model}, pruned and retrained")
    plot_labels.beside(axes, ends)
    return figure


def ranks(found: Mapping[str, Audit]) -> Figure:
    """Which ranks of the n-best list were chosen, for every selection that looks at the human target."""
    rows = [row for row, audit in found.items() if audit.settings.metric != "score"] or list(found)
    if not rows:
        figure = _figure(8.2, 1.0)
        figure.text(0.5, 0.5, "params.yaml has no row of select, so nothing was chosen.", ha="center", va="center")
        return figure
    height = 0.4 + 3.2 * len(rows)
    figure = _figure(8.2, height, left=0.09, right=0.97, bottom=0.55 / height, top=1 - 0.45 / height, hspace=0.4)
    for axes, row in zip(figure.subplots(len(rows), 1, squeeze=False)[:, 0], rows, strict=True):
        audit = found[row]
        shares = [count / audit.lines for count in audit.ranks]
        axes.bar(range(1, len(shares) + 1), shares, width=0.8, color=plot_labels.LOOKS["student"][0])
        axes.grid(axis="x", visible=False)
        axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        axes.set_xticks([1, *range(5, len(shares) + 1, 5)] if len(shares) > 9 else range(1, len(shares) + 1))
        axes.set_xlim(0.2, len(shares) + 0.8)
        axes.set_xlabel("rank in the teacher's n-best list (1: the teacher's own choice)")
        axes.set_ylabel("share of the lines")
        axes.set_title(f"What {row} chose")
        lines = [
            f"rank {audit.mean_rank + 1:.1f} on average, ties in {audit.ties:.1%} of the lines",
            f"BLEU against the human text {audit.bleu_first:.1f} → {audit.bleu_chosen:.1f}",
        ]
        axes.text(0.98, 0.95, "\n".join(lines), transform=axes.transAxes, ha="right", va="top", linespacing=1.5)
    return figure


def speed_figure(records: Sequence[Speed], scored: Mapping[str, Scored]) -> Figure:
    """BLEU against source words a second, each model at each beam."""
    figure = _figure(8.2, 5.2, left=0.09, right=0.97, bottom=0.11, top=0.9)
    axes = figure.subplots()
    marks = []
    for model in dict.fromkeys(it.model for it in records):
        look = _kind_by_size(model, scored)
        mine = []
        for it in sorted((it for it in records if it.model == model), key=lambda it: it.beam):
            name = f"{model}, {results.named(it.beam)}"
            mine.append(Mark(it.words_per_second, scored[model].bleu(it.beam), name, look, it.beam > 1))
        axes.plot([it.x for it in mine], [it.y for it in mine], color=plot_labels.LOOKS[look][0], lw=1.2, alpha=0.4)
        marks += mine
    _scatter(axes, marks)
    axes.set_xscale("log")
    speeds = [mark.x for mark in marks]
    axes.set_xlim(min(speeds) / 1.8, max(speeds) * 1.8)
    axes.margins(y=0.12)
    _ticks(axes, speeds, side="x", shape="{:,.0f}".format)
    axes.set_xlabel("source words a second (logarithmic)")
    axes.set_ylabel("BLEU")
    axes.set_title("BLEU against speed: greedy (hollow) and with the beam (filled)")
    plot_labels.around(axes, marks)
    return figure


def _kind_by_size(model: str, scored: Mapping[str, Scored]) -> str:
    it = scored[model]
    if it.remaining < it.parameters:
        return "pruned"
    if model == "baseline":
        return model
    return "teacher" if it.parameters == scored["teacher"].parameters else "student"


def speed(records: Sequence[Speed], scored: Mapping[str, Scored], out: Path) -> None:
    """speed.svg in the folder out; apart from the others, because timings vary."""
    with mpl.rc_context(STYLE):
        save(speed_figure(records, scored), out / "speed.svg")


def write(params: Params, found: Results, out: Path) -> None:
    """Every plot but speed's, and bleu.csv, curves.csv and ranks.csv with their numbers, in the folder out."""
    with mpl.rc_context(STYLE):
        save(curves(params, found.curves), out / "curves.svg")
        save(beams(params, found.scores), out / "beams.svg")
        save(size(params, found.scores), out / "size.svg")
        save(pruning(params, found.scores), out / "pruning.svg")
        save(ranks(found.audits), out / "ranks.svg")
    bleu = [
        (model, beam, scored.remaining, scored.bleu(beam))
        for model, scored in found.scores.items()
        for beam in params.evaluate.beams
    ]
    _csv(out / "bleu.csv", "model,beam,remaining,bleu", bleu)
    lines = [(it, epoch.epoch, epoch.dev_perplexity) for it, epochs in found.curves.items() for epoch in epochs]
    _csv(out / "curves.csv", "model,epoch,dev_perplexity", lines)
    counts = [(row, rank, count) for row, it in found.audits.items() for rank, count in enumerate(it.ranks, start=1)]
    _csv(out / "ranks.csv", "row,rank,lines", counts)


def _csv(path: Path, head: str, rows: Iterable[Sequence[object]]) -> None:
    with atomic.open_text(path) as file:
        file.write(f"{head}\n")
        file.writelines(",".join(map(str, row)) + "\n" for row in rows)
