"""The charts of the report as SVG files, drawn by Vega-Lite.

Each mark's aria-label says its numbers: a screen reader reads them, and the page shows them as a tooltip. Colors are
CSS variables with defaults, so that the page can show them in dark mode. The bytes depend on the numbers alone.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import vl_convert

from seqkd.config.schema import Params
from seqkd.evaluation.evidence import Evidence
from seqkd.evaluation.measurements import ModelScores, Speed
from seqkd.reporting import results
from seqkd.reporting.results import Results
from seqkd.selection.audit import Audit
from seqkd.training.curve import Epoch
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


def model_kind(params: Params, model: str) -> str:
    """Return the key of KINDS for a model of params."""
    if model in params.pruned:
        return "pruned"
    return "baseline" if model == "baseline" else params.role(model)


def save(spec: Spec, path: Path) -> None:
    """Write a chart as SVG. It is drawn without reading any file or address."""
    svg = vl_convert.vegalite_to_svg(spec | {"config": CONFIG}, allowed_base_urls=[])
    with atomic.open_text(path) as file:
        file.write(svg + "\n")


def beams_chart(params: Params, evidence: Evidence) -> Spec:
    """Show BLEU of every model with its 95 % interval, at the smallest and the largest beam size."""
    values = []
    for model in [each for each in params.models if each in evidence.certainty]:
        for beam in dict.fromkeys(_beam_range(params)):
            own = evidence.certainty[model][str(beam)]["bleu"]
            name = results.beam_name(beam)
            said = f"{model}, {name}: BLEU {own.score:.1f} ± {own.half_width:.1f}"
            ends = {"low": own.score - own.half_width, "high": own.score + own.half_width}
            kind = model_kind(params, model)
            values.append({"model": model, "kind": kind, "search": name, "bleu": own.score, "said": said, **ends})
    rows = {"y": _nominal("model", sort=None, title=None), "yOffset": _nominal("search", sort=None)}
    interval = {"x": _quantity("low", "BLEU, with 95 % intervals", zero=False), "x2": {"field": "high"}}
    fill = {
        "opacity": {"field": "search", "type": "nominal", "title": None, "sort": None, "scale": {"range": [0.45, 1]}}
    }
    point = rows | {
        "x": _quantity("bleu", None, zero=False),
        "color": COLOR,
        "shape": SHAPE,
        "description": {"field": "said"},
        **fill,
    }
    layers: list[Spec] = [
        {"mark": {"type": "rule", "aria": False}, "encoding": rows | interval | {"color": COLOR, **fill}},
        {"mark": {**POINT, "opacity": None}, "encoding": point},
    ]
    title = "BLEU of every model: " + " (pale) and ".join(map(results.beam_name, dict.fromkeys(_beam_range(params))))
    return _layered(layers, values, title=title, height={"step": 34, "for": "position"})


def curves_chart(params: Params, curves: Mapping[str, Sequence[Epoch]]) -> Spec:
    """Show dev perplexity by epoch; a finetuned model's curve begins with the last epoch of its initial model."""
    starts = {False: "from random weights", True: "from a trained model (epoch 0)"}
    values = [
        point | {"start": starts[model in params.finetune]}
        for finetuned in starts
        for point in _curves(params, curves, [each for each in curves if (each in params.finetune) is finetuned])
        for model in [point["model"]]
    ]
    x = _quantity("epoch", "epoch") | {
        "axis": {"labelExpr": "datum.value % 1 ? '' : datum.label", "format": "d", "grid": False}
    }
    y = {"field": "perplexity", "type": "quantitative", "scale": {"type": "log", "nice": False}}
    y |= {"title": "perplexity of the dev references", "axis": {"tickCount": 5, "format": "~g"}}
    shared = {"x": x, "y": y, "color": COLOR, "detail": {"field": "model"}}
    label = {"x": x, "y": y | {"field": "label_y"}, "text": {"field": "model"}, "color": COLOR}
    layers: list[Spec] = [
        {"mark": {"type": "line", "aria": False}, "encoding": shared},
        {"mark": {**POINT, "size": 26}, "encoding": shared | {"description": {"field": "said"}}},
        {
            "transform": [{"filter": "isValid(datum.label_y)"}],
            "mark": {"type": "text", "align": "left", "dx": 8, "fontSize": 11, "aria": False},
            "encoding": label,
        },
    ]
    spec = {"width": WIDTH / 2 - 60, "height": 300, "layer": layers}
    facet = {"column": {"field": "start", "type": "nominal", "title": None, "sort": list(starts.values())}}
    data = {"title": "Perplexity while training", "data": {"values": values}, "spacing": 180}
    return data | {"facet": facet, "spec": spec, "resolve": {"scale": {"x": "independent"}}, "padding": ROOM}


def _curves(params: Params, curves: Mapping[str, Sequence[Epoch]], models: Sequence[str]) -> list[Spec]:
    """Return the points of these models' curves; the last point of each says where its label stands."""
    values: list[Spec] = []
    ends: list[Spec] = []
    for model in models:
        before = curves[params.finetune[model].init_from][-1:] if model in params.finetune else []
        points = [(0, epoch) for epoch in before] + [(epoch.epoch, epoch) for epoch in curves[model]]
        for number, epoch in points:
            said = f"{model}, epoch {number}: perplexity {epoch.dev_perplexity:.1f}"
            own = {"model": model, "kind": model_kind(params, model), "said": said}
            values.append(own | {"epoch": number, "perplexity": epoch.dev_perplexity})
        ends.append(values[-1])
    heights = [math.log(end["perplexity"]) for end in ends]
    everything = [math.log(epoch.dev_perplexity) for curve in curves.values() for epoch in curve]
    gap = LABEL_GAP * (max(everything) - min(everything)) / 300
    for end, height in zip(ends, separate(heights, gap), strict=True):
        end["label_y"] = math.exp(height)
    return values


def size_chart(params: Params, scores: Mapping[str, ModelScores]) -> Spec:
    """Show BLEU with the widest beam against the number of parameters that are not pruned."""
    beam = _beam_range(params)[1]
    values = []
    for model in (*params.models, *params.pruned):
        remaining, bleu = scores[model].remaining, scores[model].bleu(beam)
        if remaining is not None and bleu is not None:
            said = f"{model}: {remaining / 1e6:.2f}M parameters, BLEU {bleu:.1f}"
            point = {"x": remaining / 1e6, "y": bleu, "label": model, "said": said}
            values.append(point | {"kind": model_kind(params, model)})
    x, y = "million parameters that are not zero (logarithmic)", f"BLEU, {results.beam_name(beam)}"
    return _scatter(values, x=x, y=y, title="BLEU against size")


def speed_chart(speeds: Sequence[Speed], scores: Mapping[str, ModelScores]) -> Spec:
    """Show BLEU against source words per second, of each model at each beam size."""
    values = []
    for speed in speeds:
        label, bleu = f"{speed.model}, {results.beam_name(speed.beam)}", scores[speed.model].bleu(speed.beam)
        said = f"{label}: {speed.words_per_second:,.0f} words per second, BLEU {bleu:.1f}"
        point = {"x": speed.words_per_second, "y": bleu, "label": label, "said": said}
        values.append(point | {"kind": _kind_by_size(speed.model, scores)})
    return _scatter(values, x="source words per second (logarithmic)", y="BLEU", title="BLEU against speed")


def _kind_by_size(model: str, scores: Mapping[str, ModelScores]) -> str:
    """Return the key of KINDS for a model whose row of params is not known."""
    own, teacher = scores[model], scores.get("teacher")
    if own.remaining != own.parameters:
        return "pruned"
    if model == "baseline":
        return model
    return "teacher" if teacher and own.parameters == teacher.parameters else "student"


def _scatter(values: list[Spec], *, x: str, y: str, title: str) -> Spec:
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
    up = _quantity("y", y, zero=False)
    leader = {"x": {"field": "x"} | across, "y": up, "x2": {"field": "label_x"}, "y2": {"field": "label_y"}}
    text = {"x": {"field": "label_x"} | across, "y": up | {"field": "label_y"}, "text": {"field": "label"}}
    point = {"x": {"field": "x"} | across, "y": up, "color": COLOR, "shape": SHAPE, "description": {"field": "said"}}
    layers: list[Spec] = [
        {"mark": {"type": "rule", "color": "#b5b5b5", "aria": False}, "encoding": leader},
        {"mark": {"type": "text", "align": "left", "dx": 3, "aria": False, "fontSize": 11}, "encoding": text},
        {"mark": POINT, "encoding": point},
    ]
    return _layered(layers, labelled, title=title, height=height)


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


def pruning_chart(params: Params, evidence: Evidence) -> Spec:
    """Show BLEU of the model of params.prune against the share of its weights that is pruned, beside the baseline."""
    values = []
    for model, ratio in {params.prune.model: 0.0, **params.pruned}.items():
        for beam in dict.fromkeys(_beam_range(params)):
            own, name = evidence.certainty[model][str(beam)]["bleu"], results.beam_name(beam)
            said = f"{ratio:.0%} pruned, {name}: BLEU {own.score:.1f} ± {own.half_width:.1f}"
            ends = {"low": own.score - own.half_width, "high": own.score + own.half_width}
            values.append({"pruned": ratio, "search": name, "kind": "pruned", "bleu": own.score, "said": said, **ends})
    x = _quantity("pruned", "share of the weights that is pruned") | {"axis": {"format": "%", "grid": False}}
    dashes = {"strokeDash": {"field": "search", "type": "nominal", "title": None, "sort": None}}
    line = {"x": x, "y": _quantity("bleu", "BLEU, with 95 % intervals", zero=False), "color": COLOR}
    interval = {"x": x, "y": _quantity("low", None, zero=False), "y2": {"field": "high"}, "color": COLOR}
    layers: list[Spec] = [
        {"mark": {"type": "line", "aria": False}, "encoding": line | dashes},
        {"mark": {"type": "rule", "aria": False}, "encoding": interval},
        {"mark": POINT, "encoding": line | {"shape": SHAPE, "description": {"field": "said"}}},
    ]
    for model, kind in ((params.main_teacher, "teacher"), ("baseline", "baseline")):
        if model not in evidence.certainty:
            continue
        bleu = evidence.certainty[model][str(_beam_range(params)[1])]["bleu"].score
        shown = [
            {
                "bleu": bleu,
                "kind": kind,
                "said": f"{model}, {results.beam_name(_beam_range(params)[1])}: BLEU {bleu:.1f}",
            }
        ]
        encoding = {"y": {"field": "bleu", "type": "quantitative"}, "color": COLOR, "description": {"field": "said"}}
        layers.append({"mark": {"type": "rule", "strokeWidth": 2}, "data": {"values": shown}, "encoding": encoding})
    return _layered(layers, values, title=f"BLEU of {params.prune.model}, pruned and retrained", height=260)


def ranks_chart(audits: Mapping[str, Audit]) -> Spec:
    """Show how often each rank of the n-best list was chosen, for every selection that compares with the reference."""
    rows = [row for row, audit in audits.items() if audit.settings.metric != "score"] or list(audits)
    values = []
    for row in rows:
        for rank, count in enumerate(audits[row].ranks, start=1):
            share = count / audits[row].lines
            said = f"{row}, rank {rank}: {share:.1%} of the lines"
            values.append({"row": row, "rank": rank, "share": share, "said": said, "kind": "student"})
    x: Spec = {"field": "rank", "type": "ordinal", "title": "rank in the teacher's list (1: its own choice)"}
    x |= {"axis": {"labelAngle": 0, "labelOverlap": True}}
    y = _quantity("share", "share of the lines") | {"axis": {"format": ".0%"}}
    color = COLOR | {"legend": None}
    bars: Spec = {"mark": "bar", "encoding": {"x": x, "y": y, "color": color, "description": {"field": "said"}}}
    facet = {
        "row": {"field": "row", "type": "nominal", "title": None, "header": {"labelAngle": 0, "labelAlign": "left"}}
    }
    spec = {"width": WIDTH - 60, "height": 170, **bars}
    title = "Which rank was chosen" if rows else "No row of select: nothing was chosen"
    return {
        "title": title,
        "data": {"values": values},
        "facet": facet,
        "spec": spec,
        "resolve": {"axis": {"x": "independent"}},
    }


def ladder_chart(params: Params, evidence: Evidence) -> Spec:
    """Show BLEU of each rung with its 95 % interval, from the teacher's beam down to the smallest student."""
    values = []
    for number, rung in enumerate(evidence.ladder, start=1):
        name = f"{number}. {rung.name}, {results.beam_name(rung.beam)}"
        step = "" if rung.step_value is None else f", step {rung.step_value:+.1f} ± {rung.step_half_width:.1f}"
        said = f"{name} ({rung.model}): BLEU {rung.bleu:.1f} ± {rung.half_width:.1f}{step}"
        ends = {"low": rung.bleu - rung.half_width, "high": rung.bleu + rung.half_width}
        kind = model_kind(params, rung.model) if rung.model in params.models else "pruned"
        values.append({"rung": name, "kind": kind, "bleu": rung.bleu, "said": said, "text": f"{rung.bleu:.1f}", **ends})
    rows = {"y": _nominal("rung", sort=None, title=None)}
    x = _quantity("bleu", "BLEU, with 95 % intervals", zero=False)
    interval = {"x": _quantity("low", None, zero=False), "x2": {"field": "high"}, "color": COLOR}
    layers: list[Spec] = [
        {
            "mark": {"type": "line", "color": "#b5b5b5", "aria": False},
            "encoding": rows | {"x": x, "order": {"field": "rung"}},
        },
        {"mark": {"type": "rule", "aria": False}, "encoding": rows | interval},
        {"mark": POINT, "encoding": rows | {"x": x, "color": COLOR, "shape": SHAPE, "description": {"field": "said"}}},
        {"mark": {"type": "text", "dy": -12, "aria": False}, "encoding": rows | {"x": x, "text": {"field": "text"}}},
    ]
    return _layered(layers, values, title="What each step costs", height={"step": 42})


def kinds_chart(params: Params, evidence: Evidence) -> Spec:
    """Show BLEU of teacher, baseline and best student on each kind of lines."""
    beam = results.beam_name(_beam_range(params)[1])
    values = []
    for kind in evidence.kinds:
        for model in dict.fromkeys((params.main_teacher, evidence.best, "baseline")):
            if model not in kind.bleu:
                continue
            said = f"{model}, {kind.feature}: {kind.name}, {kind.lines} lines: BLEU {kind.bleu[model]:.1f}"
            own = {"feature": kind.feature, "name": f"{kind.name} ({kind.lines} lines)", "bleu": kind.bleu[model]}
            values.append(own | {"kind": model_kind(params, model), "said": said})
    y, x = _nominal("name", sort=None, title=None), _quantity("bleu", f"BLEU, {beam}")
    point = {"y": y, "x": x, "color": COLOR, "shape": SHAPE, "description": {"field": "said"}}
    line = {"y": y, "x": x | {"aggregate": "min"}, "x2": {"aggregate": "max", "field": "bleu"}}
    layers: list[Spec] = [
        {"mark": {"type": "rule", "color": "#b5b5b5", "aria": False}, "encoding": line},
        {"mark": POINT, "encoding": point},
    ]
    features = list(dict.fromkeys(kind.feature for kind in evidence.kinds))
    header = {
        "labelAngle": 0,
        "labelAnchor": "start",
        "labelAlign": "left",
        "labelOrient": "top",
        "labelFontWeight": "bold",
    }
    facet = {"row": {"field": "feature", "type": "nominal", "title": None, "sort": features, "header": header}}
    spec = {"width": WIDTH - 80, "height": {"step": 26}, "layer": layers}
    resolve = {"scale": {"y": "independent"}}
    title = "BLEU by kind of line"
    return {"title": title, "data": {"values": values}, "facet": facet, "spec": spec, "resolve": resolve, "spacing": 14}


def _quantity(field: str, title: str | None, *, zero: bool = True) -> Spec:
    return {"field": field, "type": "quantitative", "title": title, "scale": {"zero": zero}}


def _nominal(field: str, **options: Any) -> Spec:
    return {"field": field, "type": "nominal", **options}


def _layered(layers: Sequence[Spec], values: Sequence[Spec], *, title: str, height: Any) -> Spec:
    data = {"values": values}
    return {"title": title, "width": WIDTH, "height": height, "data": data, "layer": list(layers)}


def _beam_range(params: Params) -> tuple[int, int]:
    return min(params.evaluate.beams), max(params.evaluate.beams)


def write_speed(speeds: Sequence[Speed], scores: Mapping[str, ModelScores], out: Path) -> None:
    """Write speed.svg into the folder out; apart from the other charts, because timings vary from run to run."""
    save(speed_chart(speeds, scores), out / "speed.svg")


def write(params: Params, all_results: Results, out: Path) -> None:
    """Write every chart but speed.svg, and the numbers of some as CSV for DVC's own plots, into the folder out."""
    scores, evidence = all_results.scores, all_results.evidence
    save(beams_chart(params, evidence), out / "beams.svg")
    save(curves_chart(params, all_results.curves), out / "curves.svg")
    save(size_chart(params, scores), out / "size.svg")
    save(pruning_chart(params, evidence), out / "pruning.svg")
    save(ranks_chart(all_results.audits), out / "ranks.svg")
    save(ladder_chart(params, evidence), out / "ladder.svg")
    save(kinds_chart(params, evidence), out / "kinds.svg")
    bleu = [
        (model, beam, "" if own.remaining is None else own.remaining, own.bleu(beam))
        for model, own in scores.items()
        for beam in params.evaluate.beams
        if own.beams
    ]
    _write_csv(out / "bleu.csv", "model,beam,remaining,bleu", bleu)
    curves = all_results.curves.items()
    epochs = [(model, epoch.epoch, epoch.dev_perplexity) for model, curve in curves for epoch in curve]
    _write_csv(out / "curves.csv", "model,epoch,dev_perplexity", epochs)
    audits = all_results.audits.items()
    ranks = [(row, rank, count) for row, audit in audits for rank, count in enumerate(audit.ranks, start=1)]
    _write_csv(out / "ranks.csv", "row,rank,lines", ranks)
    order = [model for model in (*params.models, *params.pruned) if model in evidence.certainty]
    kinds = [
        (kind.feature, kind.name, kind.lines, model, kind.bleu[model]) for kind in evidence.kinds for model in order
    ]
    _write_csv(out / "kinds.csv", "feature,kind,lines,model,bleu", kinds)


def _write_csv(path: Path, head: str, rows: Iterable[Sequence[object]]) -> None:
    with atomic.open_text(path) as file:
        file.write(f"{head}\n")
        file.writelines(",".join(map(str, row)) + "\n" for row in rows)
