"""The charts of the report as SVG files, drawn by Vega-Lite.

Each mark's aria-label says its numbers: a screen reader reads them, and the page shows them as a tooltip. The bytes
depend on the numbers alone.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from seqkd.config.schema import Params
from seqkd.evaluation.evidence import Evidence
from seqkd.evaluation.measurements import ModelScores, Speed
from seqkd.reporting import results
from seqkd.reporting.results import Results
from seqkd.reporting.vega import (
    COLOR,
    LABEL_GAP,
    POINT,
    ROOM,
    SHAPE,
    WIDTH,
    Spec,
    layered,
    nominal,
    quantity,
    save,
    scatter,
    separate,
)
from seqkd.selection.audit import Audit
from seqkd.training.curve import Epoch
from seqkd.utils import atomic


def model_kind(params: Params, model: str) -> str:
    """Return the key of KINDS for a model of params."""
    if model in params.pruned:
        return "pruned"
    return "baseline" if params.baseline_of(model) == model else params.role(model)


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
    rows = {"y": nominal("model", sort=None, title=None), "yOffset": nominal("search", sort=None)}
    interval = {"x": quantity("low", "BLEU, with 95 % intervals", zero=False), "x2": {"field": "high"}}
    fill = {
        "opacity": {"field": "search", "type": "nominal", "title": None, "sort": None, "scale": {"range": [0.45, 1]}}
    }
    point = rows | {
        "x": quantity("bleu", None, zero=False),
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
    return layered(layers, values, title=title, height={"step": 34, "for": "position"})


def curves_chart(params: Params, curves: Mapping[str, Sequence[Epoch]]) -> Spec:
    """Show dev perplexity by epoch; a finetuned model's curve begins with the last epoch of its initial model."""
    starts = {False: "from random weights", True: "from a trained model (epoch 0)"}
    values = [
        point | {"start": starts[model in params.finetune]}
        for finetuned in starts
        for point in _curves(params, curves, [each for each in curves if (each in params.finetune) is finetuned])
        for model in [point["model"]]
    ]
    x = quantity("epoch", "epoch") | {
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
    return scatter(values, x=x, y=y, title="BLEU against size")


def speed_chart(speeds: Sequence[Speed], scores: Mapping[str, ModelScores]) -> Spec:
    """Show BLEU against source words per second, of each model at each beam size."""
    values = []
    for speed in speeds:
        label, bleu = f"{speed.model}, {results.beam_name(speed.beam)}", scores[speed.model].bleu(speed.beam)
        said = f"{label}: {speed.words_per_second:,.0f} words per second, BLEU {bleu:.1f}"
        point = {"x": speed.words_per_second, "y": bleu, "label": label, "said": said}
        values.append(point | {"kind": _kind_by_size(speed.model, scores)})
    return scatter(values, x="source words per second (logarithmic)", y="BLEU", title="BLEU against speed")


def _kind_by_size(model: str, scores: Mapping[str, ModelScores]) -> str:
    """Return the key of KINDS for a model whose row of params is not known."""
    own, teacher = scores[model], scores.get("teacher")
    if own.remaining != own.parameters:
        return "pruned"
    if model == "baseline":
        return model
    return "teacher" if teacher and own.parameters == teacher.parameters else "student"


def pruning_chart(params: Params, evidence: Evidence) -> Spec:
    """Show BLEU of the model of params.prune against the share of its weights that is pruned, beside the baseline."""
    values = []
    for model, ratio in {params.prune.model: 0.0, **params.pruned}.items():
        for beam in dict.fromkeys(_beam_range(params)):
            own, name = evidence.certainty[model][str(beam)]["bleu"], results.beam_name(beam)
            said = f"{ratio:.0%} pruned, {name}: BLEU {own.score:.1f} ± {own.half_width:.1f}"
            ends = {"low": own.score - own.half_width, "high": own.score + own.half_width}
            values.append({"pruned": ratio, "search": name, "kind": "pruned", "bleu": own.score, "said": said, **ends})
    x = quantity("pruned", "share of the weights that is pruned") | {"axis": {"format": "%", "grid": False}}
    dashes = {"strokeDash": {"field": "search", "type": "nominal", "title": None, "sort": None}}
    line = {"x": x, "y": quantity("bleu", "BLEU, with 95 % intervals", zero=False), "color": COLOR}
    interval = {"x": x, "y": quantity("low", None, zero=False), "y2": {"field": "high"}, "color": COLOR}
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
    return layered(layers, values, title=f"BLEU of {params.prune.model}, pruned and retrained", height=260)


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
    y = quantity("share", "share of the lines") | {"axis": {"format": ".0%"}}
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
    rows = {"y": nominal("rung", sort=None, title=None)}
    x = quantity("bleu", "BLEU, with 95 % intervals", zero=False)
    interval = {"x": quantity("low", None, zero=False), "x2": {"field": "high"}, "color": COLOR}
    layers: list[Spec] = [
        {
            "mark": {"type": "line", "color": "#b5b5b5", "aria": False},
            "encoding": rows | {"x": x, "order": {"field": "rung"}},
        },
        {"mark": {"type": "rule", "aria": False}, "encoding": rows | interval},
        {"mark": POINT, "encoding": rows | {"x": x, "color": COLOR, "shape": SHAPE, "description": {"field": "said"}}},
        {"mark": {"type": "text", "dy": -12, "aria": False}, "encoding": rows | {"x": x, "text": {"field": "text"}}},
    ]
    return layered(layers, values, title="What each step costs", height={"step": 42})


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
    y, x = nominal("name", sort=None, title=None), quantity("bleu", f"BLEU, {beam}")
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
