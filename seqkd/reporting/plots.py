"""The plots of the report, as SVG files whose bytes depend on the numbers alone."""

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
from seqkd.evaluation.measurements import ModelScores, Speed
from seqkd.reporting import plot_labels, results
from seqkd.reporting.plot_labels import KIND_STYLES, Point
from seqkd.reporting.results import Results
from seqkd.selection.audit import Audit
from seqkd.training.curve import Epoch
from seqkd.utils import atomic

STYLE: dict[Any, Any] = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans", "Verdana"],  # nearly equal in width; browsers have one of them
    "font.size": 9.5,
    "text.color": plot_labels.TEXT_COLOR,
    "axes.edgecolor": "#8a8a8a",
    "axes.labelcolor": plot_labels.TEXT_COLOR,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.titlepad": 10,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#ececec",
    "xtick.color": plot_labels.TEXT_COLOR,
    "ytick.color": plot_labels.TEXT_COLOR,
    "xtick.minor.size": 0,
    "ytick.minor.size": 0,
    "svg.hashsalt": "seqkd",
    "svg.fonttype": "none",
}


def model_kind(params: Params, model: str) -> str:
    """Return the key of KIND_STYLES for a model of params."""
    if model in params.pruned:
        return "pruned"
    return "baseline" if model == "baseline" else params.role(model)


def save(figure: Figure, path: Path) -> None:
    """Write the figure in the format of the file's ending, such as svg or png."""
    form = path.suffix[1:]
    with atomic.atomic_write(path) as partial, mpl.rc_context(STYLE):
        figure.savefig(partial, format=form, dpi=160, metadata={"Date": None} if form == "svg" else None)


def _figure(width: float, height: float, **margins: float) -> Figure:
    """Return an empty figure of this size in inches, with margins as fractions of it.

    At 72 dots an inch a pixel is a point, so labels stay where plot_labels put them.
    """
    figure = Figure(figsize=(width, height), dpi=72, facecolor="white")
    FigureCanvasAgg(figure)
    figure.subplots_adjust(**margins)
    return figure


def _scatter(axes: Axes, points: Iterable[Point]) -> None:
    for point in points:
        color, marker = KIND_STYLES[point.kind]
        fill = color if point.filled else "white"
        axes.plot(point.x, point.y, marker, ms=7, mfc=fill, mec=color, mew=1.4, zorder=3, clip_on=False)


def _log_ticks(axes: Axes, values: Sequence[float], *, side: str, form: Callable[[float], str]) -> None:
    """Give a logarithmic axis a few round ticks within the range of the values."""
    low, high = min(values) / 1.15, max(values) * 1.15
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for digits in ((1, 2, 5), (1, 1.5, 2, 3, 4, 5, 7), (1, 1.2, 1.4, 1.6, 1.8, 2, 2.5, 3, 3.5, 4, 4.5, 5, 6, 7, 8, 9)):
        ticks = [digit * 10.0**power for power in powers for digit in digits if low <= digit * 10.0**power <= high]
        if len(ticks) > 3:
            break
    axis = axes.xaxis if side == "x" else axes.yaxis
    axis.set_major_locator(FixedLocator(ticks))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: form(value)))


def curves_figure(params: Params, curves: Mapping[str, Sequence[Epoch]]) -> Figure:
    """Plot dev perplexity against epochs; a finetuned model's curve begins with the last epoch of its initial model."""
    trained = [model for model in params.networks if model in curves]
    names = _label_inches(trained)
    width = 0.7 + 2 * (3.3 + names)
    figure = _figure(width, 4.3, left=0.7 / width, right=1 - names / width, bottom=0.16, top=0.9)
    figure.subplots_adjust(wspace=(names + 0.3) / 3.2)
    left, right = figure.subplots(1, 2)
    scratch = [model for model in trained if model not in params.finetune]
    finetuned = [model for model in trained if model in params.finetune]
    for axes, models, title in (
        (left, scratch, "From random weights"),
        (right, finetuned, "From a trained model (epoch 0)"),
    ):
        points = {model: _curve_points(params, curves, model) for model in models}
        ends = [_plot_curve(axes, params, model=model, points=points[model]) for model in models]
        axes.set_yscale("log")
        axes.set_title(title)
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        if models:
            values = [perplexity for model in models for _, perplexity in points[model]]
            _log_ticks(axes, values, side="y", form="{:g}".format)
        plot_labels.label_right(axes, ends)
    left.set_ylabel("perplexity of the dev references")
    figure.text(0.7 / width, 0.015, "dashed: with Word-KD in the loss", fontsize=8.5)
    return figure


def _curve_points(params: Params, curves: Mapping[str, Sequence[Epoch]], model: str) -> list[tuple[int, float]]:
    before = curves[params.finetune[model].init_from][-1:] if model in params.finetune else []
    return [(0, epoch.dev_perplexity) for epoch in before] + [
        (epoch.epoch, epoch.dev_perplexity) for epoch in curves[model]
    ]


def _plot_curve(axes: Axes, params: Params, *, model: str, points: Sequence[tuple[int, float]]) -> Point:
    """Plot one model's curve, dashed where its loss has Word-KD; return its last point."""
    row = params.finetune.get(model) or params.distill.get(model)
    dashes = (0, (4, 2)) if row and row.alpha else "-"
    end = Point(*points[-1], model, model_kind(params, model))
    color = KIND_STYLES[end.kind][0]
    axes.plot(*zip(*points, strict=True), color=color, lw=1.6, ls=dashes, marker=".", ms=4)
    return end


def _label_inches(labels: Iterable[str]) -> float:
    """Return the width of the longest label with the line that leads to it."""
    return 0.35 + 0.088 * max(map(len, labels))


def beams_figure(params: Params, scores: Mapping[str, ModelScores]) -> Figure:
    """Plot BLEU at the smallest and the largest beam size: how much of the beam a model still needs."""
    models, (low, high) = [model for model in params.models[::-1] if scores[model].beams], _beam_range(params)
    figure = _figure(8.2, 1.3 + 0.34 * len(models), left=0.27, right=0.95, bottom=0.15, top=0.86)
    axes = figure.subplots()
    for row, model in enumerate(models):
        kind, bleu = model_kind(params, model), (_bleu(scores, model, low), _bleu(scores, model, high))
        axes.plot(bleu, (row, row), color=KIND_STYLES[kind][0], lw=2, alpha=0.5, zorder=2)
        _scatter(axes, [Point(bleu[0], row, model, kind, False), Point(bleu[1], row, model, kind)])
        for value in set(bleu):
            right = value == max(bleu)
            axes.annotate(
                f"{value:.1f}",
                (value, row),
                xytext=(8 if right else -8, 0),
                textcoords="offset points",
                va="center",
                ha="left" if right else "right",
                fontsize=8.5,
            )
    axes.set_yticks(range(len(models)), models)
    for label, model in zip(axes.get_yticklabels(), models, strict=True):
        label.set_color(KIND_STYLES[model_kind(params, model)][0])
    axes.set_xlabel("BLEU")
    axes.margins(x=0.12)
    axes.grid(axis="x", visible=False)
    axes.set_title(f"BLEU, {results.beam_name(low)} (hollow) and {results.beam_name(high)} (filled)")
    return figure


def _bleu(scores: Mapping[str, ModelScores], model: str, beam: int) -> float:
    """Return BLEU of a model that has translations."""
    return scores[model].beams[str(beam)].bleu


def _beam_range(params: Params) -> tuple[int, int]:
    return min(params.evaluate.beams), max(params.evaluate.beams)


def size_figure(params: Params, scores: Mapping[str, ModelScores]) -> Figure:
    """Plot BLEU at the largest beam size against the number of parameters that are not pruned."""
    beam = _beam_range(params)[1]
    figure = _figure(8.2, 5.2, left=0.09, right=0.97, bottom=0.11, top=0.9)
    axes = figure.subplots()
    points = [
        Point(remaining, _bleu(scores, model, beam), model, model_kind(params, model))
        for model in (*params.models, *params.pruned)
        if (remaining := scores[model].remaining)
    ]
    pruned = sorted(point[:2] for point in points if point.kind == "pruned" or point.label == params.prune.model)
    axes.plot(*zip(*pruned, strict=True), color=KIND_STYLES["pruned"][0], lw=1.2, alpha=0.5)
    _scatter(axes, points)
    axes.set_xscale("log")
    sizes = [point.x for point in points]
    axes.set_xlim(min(sizes) / 1.3, max(sizes) * 1.6)  # leaves room for a column of labels between two sizes
    axes.margins(y=0.12)
    _log_ticks(axes, sizes, side="x", form=lambda value: f"{value / 1e6:g}M")
    axes.set_xlabel("parameters that are not zero (logarithmic)")
    axes.set_ylabel(f"BLEU, {results.beam_name(beam)}")
    axes.set_title("BLEU against size")
    plot_labels.label_around(axes, points)
    return figure


def pruning_figure(params: Params, scores: Mapping[str, ModelScores]) -> Figure:
    """Plot BLEU of the model of params.prune against the fraction of its weights that is pruned."""
    figure = _figure(8.2, 4.2, left=0.09, right=0.8, bottom=0.13, top=0.88)
    axes = figure.subplots()
    ratios = {params.prune.model: 0.0, **params.pruned}
    low, high = _beam_range(params)
    ends = []
    for model in ("teacher" if params.trains_teacher else next(iter(params.external)), "baseline"):
        if scores[model].beams:
            bleu, kind = _bleu(scores, model, high), model_kind(params, model)
            axes.axhline(bleu, color=KIND_STYLES[kind][0], lw=1.2, ls=(0, (4, 3)))
            ends.append(Point(1.0, bleu, f"{model}, {results.beam_name(high)}", kind))
    for beam in dict.fromkeys((low, high)):
        points = [
            Point(ratio, _bleu(scores, model, beam), model, "pruned", beam == high) for model, ratio in ratios.items()
        ]
        _line(axes, points, kind="pruned", lw=1.6)
        _scatter(axes, points)
        ends.append(points[-1]._replace(label=f"pruned, {results.beam_name(beam)}"))
    axes.set_xlim(-0.03, 1.0)
    axes.margins(y=0.12)
    ticks = sorted(set(ratios.values()))
    axes.set_xticks(ticks, [f"{ratio * 100:g}" for ratio in ticks])
    axes.set_xlabel("weights pruned, %")
    axes.set_ylabel("BLEU")
    axes.set_title(f"BLEU of {params.prune.model}, pruned and retrained")
    plot_labels.label_right(axes, ends)
    return figure


def _line(axes: Axes, points: Sequence[Point], *, kind: str, **style: Any) -> None:
    axes.plot([point.x for point in points], [point.y for point in points], color=KIND_STYLES[kind][0], **style)


def ranks_figure(audits: Mapping[str, Audit]) -> Figure:
    """Plot how often each rank of the n-best list was chosen, for every selection that compares with the reference."""
    rows = [row for row, audit in audits.items() if audit.settings.metric != "score"] or list(audits)
    if not rows:
        figure = _figure(8.2, 1.0)
        figure.text(0.5, 0.5, "params.yaml has no row of select, so nothing was chosen.", ha="center", va="center")
        return figure
    height = 0.4 + 3.2 * len(rows)
    figure = _figure(8.2, height, left=0.09, right=0.97, bottom=0.55 / height, top=1 - 0.45 / height, hspace=0.4)
    for axes, row in zip(figure.subplots(len(rows), 1, squeeze=False)[:, 0], rows, strict=True):
        _plot_ranks(axes, audits[row])
    return figure


def _plot_ranks(axes: Axes, audit: Audit) -> None:
    """Plot the fraction of lines by chosen rank, counted from 1."""
    fractions = [count / audit.lines for count in audit.ranks]
    count = len(fractions)
    axes.bar(range(1, count + 1), fractions, width=0.8, color=KIND_STYLES["student"][0])
    axes.grid(axis="x", visible=False)
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    axes.set_xticks([1, *range(5, count + 1, 5)] if count > 9 else range(1, count + 1))
    axes.set_xlim(0.2, count + 0.8)
    axes.set_xlabel("rank in the teacher's n-best list (1: the teacher's own choice)")
    axes.set_ylabel("share of the lines")
    axes.set_title(f"What {audit.row} chose")
    lines = [f"rank {audit.mean_rank + 1:.1f} on average, ties in {audit.ties:.1%} of the lines"]
    if audit.bleu_first is not None:
        lines += [f"BLEU against the reference {audit.bleu_first:.1f} → {audit.bleu_chosen:.1f}"]
    axes.text(0.98, 0.95, "\n".join(lines), transform=axes.transAxes, ha="right", va="top", linespacing=1.5)


def speed_figure(speeds: Sequence[Speed], scores: Mapping[str, ModelScores]) -> Figure:
    """Plot BLEU against source words per second, each model at each beam size."""
    figure = _figure(8.2, 5.2, left=0.09, right=0.97, bottom=0.11, top=0.9)
    axes = figure.subplots()
    points: list[Point] = []
    for model in dict.fromkeys(speed.model for speed in speeds):
        kind = _kind_by_size(model, scores)
        own = [
            Point(
                speed.words_per_second,
                _bleu(scores, model, speed.beam),
                f"{model}, {results.beam_name(speed.beam)}",
                kind,
                speed.beam > 1,
            )
            for speed in sorted(speeds, key=lambda speed: speed.beam)
            if speed.model == model
        ]
        _line(axes, own, kind=kind, lw=1.2, alpha=0.4)
        points += own
    _scatter(axes, points)
    axes.set_xscale("log")
    values = [point.x for point in points]
    axes.set_xlim(min(values) / 1.8, max(values) * 1.8)
    axes.margins(y=0.12)
    _log_ticks(axes, values, side="x", form="{:,.0f}".format)
    axes.set_xlabel("source words per second (logarithmic)")
    axes.set_ylabel("BLEU")
    axes.set_title("BLEU against speed: greedy (hollow) and with the beam (filled)")
    plot_labels.label_around(axes, points)
    return figure


def _kind_by_size(model: str, scores: Mapping[str, ModelScores]) -> str:
    """Return the key of KIND_STYLES for a model whose row of params is not known."""
    own, teacher = scores[model], scores.get("teacher")
    if own.remaining != own.parameters:
        return "pruned"
    if model == "baseline":
        return model
    return "teacher" if teacher and own.parameters == teacher.parameters else "student"


def write_speed(speeds: Sequence[Speed], scores: Mapping[str, ModelScores], out: Path) -> None:
    """Write speed.svg into the folder out; apart from the other plots, because timings vary from run to run."""
    with mpl.rc_context(STYLE):
        save(speed_figure(speeds, scores), out / "speed.svg")


def write(params: Params, all_results: Results, out: Path) -> None:
    """Write every plot but speed.svg, and their numbers as bleu.csv, curves.csv and ranks.csv, into the folder out."""
    with mpl.rc_context(STYLE):
        save(curves_figure(params, all_results.curves), out / "curves.svg")
        save(beams_figure(params, all_results.scores), out / "beams.svg")
        save(size_figure(params, all_results.scores), out / "size.svg")
        save(pruning_figure(params, all_results.scores), out / "pruning.svg")
        save(ranks_figure(all_results.audits), out / "ranks.svg")
    bleu = [
        (model, beam, "" if scores.remaining is None else scores.remaining, scores.bleu(beam))
        for model, scores in all_results.scores.items()
        for beam in params.evaluate.beams
        if scores.beams
    ]
    _write_csv(out / "bleu.csv", "model,beam,remaining,bleu", bleu)
    curves = all_results.curves.items()
    epochs = [(model, epoch.epoch, epoch.dev_perplexity) for model, curve in curves for epoch in curve]
    _write_csv(out / "curves.csv", "model,epoch,dev_perplexity", epochs)
    audits = all_results.audits.items()
    ranks = [(row, rank, count) for row, audit in audits for rank, count in enumerate(audit.ranks, start=1)]
    _write_csv(out / "ranks.csv", "row,rank,lines", ranks)


def _write_csv(path: Path, head: str, rows: Iterable[Sequence[object]]) -> None:
    with atomic.open_text(path) as file:
        file.write(f"{head}\n")
        file.writelines(",".join(map(str, row)) + "\n" for row in rows)
