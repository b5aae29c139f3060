"""reports/index.html: one file that opens from disk, with all tables, charts and test lines in it.

page/ holds its template, style and script. The template escapes whatever it is given; the test lines are packed data
that the script shows as text. The page may load nothing and run only its own script (its Content-Security-Policy).
"""

import base64
import hashlib
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jinja2
from markupsafe import Markup

from seqkd.data import bitext
from seqkd.evaluation import measurements, robustness
from seqkd.evaluation.evidence import Evidence, Rung
from seqkd.reporting import examples, results, sentences, table_text, tables
from seqkd.selection.audit import Audit, outside
from seqkd.utils import atomic
from seqkd.utils.errors import InputError

PAGE = Path(__file__).resolve().parent / "page"


class Content(NamedTuple):
    """What the page shows besides the tables and charts of the reports folder."""

    evidence: Evidence
    examples: Mapping[str, Any]  # of examples.build
    audits: Sequence[Path]  # the files
    about: Path  # about.json of the corpus


class Answer(NamedTuple):
    """The answer to one question, as a figure and a sentence."""

    question: str
    figure: str
    sentence: str


def write(reports: Path, content: Content) -> None:
    """Write index.html into reports. Raises InputError where a table, chart or audit is missing or broken."""
    methods, ladder = tables.read_methods(reports / "table1.csv"), tables.read(reports / "ladder.csv")
    shown = {name: table_text.to_page(tables.read(reports / f"{name}.csv")) for name in ("table2", "table3", "faults")}
    shown |= {"table1": table_text.to_page(methods), "ladder": table_text.to_page(ladder)}
    corpus = bitext.read_about(content.about)
    packed, lines = examples.pack(content.examples)
    script = (PAGE / "page.js").read_text(encoding="utf-8")
    text = _template("page.html").render(
        languages=f"{corpus.get('source', 'source')} to {corpus.get('target', 'target')}",
        answers=answers(content.evidence, list(ladder["words_per_second"])),
        headline=[*sentences.headline(methods), *sentences.certainty(methods)],
        tables=shown,
        kinds=_kinds(content.evidence, content.examples),
        hard=_hard(content.evidence),
        faults=robustness.FAULTS,
        audits=[measurements.read(Audit, path) for path in content.audits],
        outside=outside,
        provenance=_provenance(corpus),
        chart=lambda name: _chart(reports / "plots" / f"{name}.svg"),
        packed=packed,
        lines=lines,
        all_lines=len(content.examples["lines"]),
        style=Markup((PAGE / "page.css").read_text(encoding="utf-8")),
        script=Markup(script),
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )
    with atomic.open_text(reports / "index.html") as file:
        file.write(text)


def _template(name: str) -> jinja2.Template:
    loader = jinja2.FileSystemLoader(PAGE)
    environment = jinja2.Environment(
        loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template(name)


def _chart(path: Path) -> Markup:
    """Return a chart that charts.py wrote, with its texts escaped as Vega does, to stand in the page."""
    try:
        return Markup(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path}: no such chart yet; run dvc repro.") from None


def answers(evidence: Evidence, speeds: Sequence[float]) -> list[Answer]:
    """Return how good, fast, small and sure the best student is, from the ladder. speeds: of each rung."""
    first, last = evidence.ladder[0], evidence.ladder[-1]
    is_trained = first.model != evidence.best
    quick = next(number for number, rung in enumerate(evidence.ladder) if rung.model == evidence.best)
    widest, greedy = _of(evidence, evidence.best)
    found = [
        Answer(
            "How good?",
            f"{widest.bleu:.1f} BLEU",
            f"{results.beam_name(widest.beam)}{f', where the teacher has {first.bleu:.1f}' * is_trained};"
            f" {results.beam_name(greedy.beam)} {greedy.bleu:.1f}.",
        )
    ]
    ratio = speeds[quick + (widest is not greedy)] / speeds[0]
    if not math.isnan(ratio) and is_trained:
        found.append(
            Answer(
                "How fast?",
                f"{ratio:.0f} times",
                f"the teacher's words per second: {results.beam_name(greedy.beam)} against the teacher's"
                f" {results.beam_name(first.beam)}.",
            )
        )
    small = (
        f"against {first.bytes / 1e6:.1f} MB; " * is_trained
        + f"{last.bytes / 1e6:.2f} MB as the smallest one, {last.model}."
    )
    found.append(Answer("How small?", f"{widest.bytes / 1e6:.2f} MB", small))
    sure = f"on {evidence.lines:,} lines (95 %){_against_baseline(evidence, widest)}."
    return [*found, Answer("How sure?", f"±{widest.half_width:.1f} BLEU", sure)]


def _against_baseline(evidence: Evidence, rung: Rung) -> str:
    """Return whether a rung is better than the baseline, with the p-value; nothing for the baseline or without one."""
    if "baseline" not in evidence.certainty:
        return ""
    own, baseline = (evidence.certainty[model][str(rung.beam)]["bleu"] for model in (rung.model, "baseline"))
    p = own.p.get("baseline")
    if p is None:
        return ""
    verdict = "not surely another than" if p >= 0.05 else "better than" if own.score > baseline.score else "worse than"
    return f"; {verdict} the baseline, p = {p:.3f}"


def _of(evidence: Evidence, model: str) -> tuple[Rung, Rung]:
    """Return a model's first and last rung: with its beam, and greedy."""
    rungs = [rung for rung in evidence.ladder if rung.model == model]
    return rungs[0], rungs[-1]


def _kinds(evidence: Evidence, shown: Mapping[str, Any]) -> dict[str, Any]:
    """Return BLEU by kind of line as a table: the models as columns."""
    models = [model["name"] for model in shown["models"]]
    rows = [
        (f"{kind.feature}: {kind.name}", f"{kind.lines:,}", *(f"{kind.bleu[model]:.1f}" for model in models))
        for kind in evidence.kinds
    ]
    return {"head": ["kind of line", "lines", *models], "rows": rows}


def _hard(evidence: Evidence) -> dict[str, Any]:
    """Return the hard lines with the greedy outputs of teacher, baseline and best student."""
    wanted = dict.fromkeys(("teacher", evidence.best, "baseline"))
    models = [model for model in wanted if all(model in line.outputs for line in evidence.hard_lines)]
    beam = min(map(int, evidence.certainty[evidence.best]))
    rows = [(line, [line.outputs[model][str(beam)] for model in models]) for line in evidence.hard_lines]
    return {"models": models, "rows": rows}


def _provenance(corpus: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return where the text is from, how much of it there is, and what was dropped."""
    pairs = ", ".join(f"{name} {count:,}" for name, count in corpus.get("pairs", {}).items())
    rows = [("corpus", corpus.get("corpus", "")), ("pairs", pairs), ("split by seed", corpus.get("seed", ""))]
    rows += _flatten(corpus.get("origin", {}))
    dropped = sorted(corpus.get("dropped", {}).items(), key=lambda item: -item[1])
    rows += [(f"dropped: {cause}", f"{count:,}") for cause, count in dropped]
    return [(str(name), str(value)) for name, value in rows]


def _flatten(value: Any, name: str = "") -> list[tuple[str, Any]]:
    """Return a nested record as pairs of name and value."""
    if isinstance(value, dict):
        return [pair for key, inner in value.items() for pair in _flatten(inner, f"{name} {key}".strip())]
    if isinstance(value, list):
        return [pair for inner in value for pair in _flatten(inner, name)]
    return [(name, value)]
