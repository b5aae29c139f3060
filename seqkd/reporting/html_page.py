"""reports/index.html: tables, plots, audits and data on one page, which links to the plots' files."""

from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

from seqkd.data import bitext
from seqkd.evaluation import measurements
from seqkd.reporting import tables
from seqkd.selection.audit import Audit, outside
from seqkd.utils import atomic

STYLE = """
body { margin: 2.5rem auto 5rem; max-width: 70rem; padding: 0 1.25rem; color: #2b2b2b; background: #fff;
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", Verdana, sans-serif }
h1 { font-size: 1.75rem; margin: 0 0 .3rem; line-height: 1.25 }
h2 { font-size: 1.25rem; margin: 3rem 0 .75rem; padding-top: 1rem; border-top: 1px solid #e4e4e4 }
p { max-width: 46rem; margin: .6rem 0 }
.lead { color: #555 }
.wide { overflow-x: auto; margin: 1rem 0 .5rem }
table { border-collapse: collapse; font-size: .84rem; font-variant-numeric: tabular-nums; white-space: nowrap }
th { text-align: right; vertical-align: bottom; font-weight: 600; color: #555; border-bottom: 1.5px solid #999;
  line-height: 1.3 }
td { text-align: right; border-bottom: 1px solid #ececec }
th, td { padding: .34rem .5rem }
th:first-child, td:first-child { padding-left: 0; font-weight: 600 }
th.word, td.word { text-align: left }
tbody tr:hover { background: #f6f8fa }
.notes { font-size: .78rem; color: #666; padding-left: 1.1rem; margin: .5rem 0 1.5rem; overflow-wrap: anywhere }
figure { margin: 1.75rem 0 }
figure img { max-width: 100%; height: auto }
figcaption { font-size: .85rem; color: #666; max-width: 46rem }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .2rem 1.5rem; font-size: .9rem }
dt { color: #666 }
dd { margin: 0; overflow-wrap: anywhere }
""".strip()


def write(reports: Path, *, audits: Path, about: Path) -> None:
    """Write index.html into reports from its tables (Table 2 only where it was measured), the audits and about.json.

    Raises InputError where one of them is missing or broken.
    """
    corpus = bitext.read_about(about)
    languages = f"{corpus.get('source', 'source')} to {corpus.get('target', 'target')}"
    body = [
        f"<h1>Sequence-level knowledge distillation, {escape(languages)}</h1>",
        "<p class=lead>Students that learn from a teacher's translations (Kim &amp; Rush 2016).</p>",
        *_tables(reports),
        "<h2>What the students train on</h2>",
        *(f"<p>{_audit(measurements.read(Audit, audits / f'{row}.json'))}</p>" for row in _selected_texts(reports)),
        _figure("ranks", "The ranks of the hypotheses that were chosen by comparison with the reference."),
        "<h2>Data</h2>",
        _provenance(corpus),
    ]
    with atomic.open_text(reports / "index.html") as file:
        file.write('<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n')
        file.write('<meta name="viewport" content="width=device-width">\n')
        file.write(f"<title>Distillation, {escape(languages)}</title>\n<style>\n{STYLE}\n</style>\n")
        file.write("\n".join(body) + "\n</html>\n")


def _tables(reports: Path) -> list[str]:
    """Return the headline and the three tables, each with its plots."""
    methods, speeds = tables.read_methods(reports / "table1.csv"), reports / "table2.csv"
    if speeds.exists():
        caption = "BLEU against speed: the best models are at the top right."
        speed = [tables.to_html(tables.read(speeds)), _figure("speed", caption)]
    else:
        speed = ["<p>Not measured yet: run dvc repro.</p>"]
    return [
        *(f"<p>{escape(sentence)}</p>" for sentence in tables.headline(methods)),
        "<h2>Table 1: every method</h2>",
        tables.to_html(methods),
        _figure("beams", "BLEU without and with a beam. A short bar: the model hardly needs the beam."),
        _figure("curves", "A student's perplexity of the references may rise while its translations get better."),
        _figure("size", "BLEU against size. The line joins a model and its pruned versions."),
        "<h2>Table 2: speed</h2>",
        *speed,
        "<h2>Table 3: pruning</h2>",
        tables.to_html(tables.read(reports / "table3.csv")),
        _figure("pruning", "The smallest weights of the whole model become zero and stay zero while it is retrained."),
    ]


def _selected_texts(reports: Path) -> list[str]:
    """Return the rows of select whose texts a model of Table 1 trained on."""
    return [
        text
        for text in dict.fromkeys(tables.read_methods(reports / "table1.csv")["text"])
        if text not in ("human", "its own")
    ]


def _figure(name: str, caption: str) -> str:
    image = f'<img src="plots/{name}.svg" alt="{escape(caption)}">'
    return f"<figure>{image}<figcaption>{escape(caption)}</figcaption></figure>"


def _audit(audit: Audit) -> str:
    """Return an audit as a paragraph."""
    settings, sizes, length = audit.settings, audit.hypotheses_per_line, audit.length_ratio
    smoothing = settings.smoothing + (f" {settings.smoothing_value:g}" if settings.smoothing_value else "")
    criterion = {
        "score": "the one with the teacher's best score",
        "bleu": f"the one closest to the reference by sentence BLEU (smoothing {smoothing})",
        "chrf": "the one closest to the reference by chrF",
    }[settings.metric]
    first = audit.ranks[0] / audit.lines
    faults = escape(", ".join(f"{name} {fraction:.2%}" for name, fraction in audit.chosen.items()))
    sentences = [
        f"<b>{escape(audit.row)}</b> takes for each of {audit.lines:,} lines, from {sizes.mean:.1f} hypotheses"
        f" of {escape(settings.nbest)} ({sizes.distinct:.1f} different texts), {escape(criterion)}.",
        f"This is the first hypothesis in {first:.0%} of the lines, and number {audit.mean_rank + 1:.1f} on average.",
        f"In {audit.ties:.1%} of the lines several texts are equally good;",
        f"in {audit.no_overlap:.1%} the chosen text shares no word with the reference.",
        f"Faults of the chosen texts: {faults}.",
        *map(escape, outside(audit)),
    ]
    if length is not None:
        sentences.insert(
            4,
            f"Against the reference, the chosen texts have BLEU {audit.bleu_chosen:.1f}, the first hypotheses"
            f" {audit.bleu_first:.1f} ({audit.oracle_gain:+.1f}); the length ratios are {length.chosen:.3f} and"
            f" {length.first:.3f}.",
        )
    return " ".join(sentences)


def _provenance(corpus: Mapping[str, Any]) -> str:
    """Return where the text is from, how much of it there is, and what was dropped, as a description list."""
    pairs = ", ".join(f"{name} {count:,}" for name, count in corpus.get("pairs", {}).items())
    rows = [("corpus", corpus.get("corpus", "")), ("pairs", pairs), ("split by seed", corpus.get("seed", ""))]
    rows += [("", ""), *_flatten(corpus.get("origin", {}))]
    dropped = sorted(corpus.get("dropped", {}).items(), key=lambda item: -item[1])
    rows += [("", ""), *((f"dropped: {cause}", f"{count:,}") for cause, count in dropped)]
    items = "".join(f"<dt>{escape(str(name))}</dt><dd>{escape(str(value))}</dd>" for name, value in rows)
    return f"<dl>{items}</dl>"


def _flatten(value: Any, name: str = "") -> list[tuple[str, Any]]:
    """Return a nested record as pairs of name and value."""
    if isinstance(value, dict):
        return [pair for key, inner in value.items() for pair in _flatten(inner, f"{name} {key}".strip())]
    if isinstance(value, list):
        return [pair for inner in value for pair in _flatten(inner, name)]
    return [(name, value)]
