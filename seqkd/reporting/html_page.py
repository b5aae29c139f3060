"""reports/index.html: tables, plots, audits and data on one page; the plots are links, so they renew themselves."""

from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

from seqkd.data import bitext
from seqkd.reporting import results, tables
from seqkd.reporting.results import Audit
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
    """The page, from the tables in reports (Table 2 only if it was measured), the audits and about.json.

    Raises InputError where one of them is missing.
    """
    told = bitext.read_about(about)
    title = f"{told.get('source', 'source')} to {told.get('target', 'target')}"
    body = [
        f"<h1>Sequence-level knowledge distillation, {escape(title)}</h1>",
        "<p class=lead>Students that learn from a teacher's translations (Kim &amp; Rush 2016).</p>",
        *_tables(reports),
        "<h2>What the students read</h2>",
        *(f"<p>{_audit(results.audit(audits / f'{row}.json'))}</p>" for row in _texts(reports)),
        _figure("ranks", "The hypotheses chosen for the human target's sake, by their rank."),
        "<h2>Data</h2>",
        _provenance(told),
    ]
    with atomic.open_text(reports / "index.html") as file:
        file.write('<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n')
        file.write('<meta name="viewport" content="width=device-width">\n')
        file.write(f"<title>Distillation, {escape(title)}</title>\n<style>\n{STYLE}\n</style>\n")
        file.write("\n".join(body) + "\n</html>\n")


def _tables(reports: Path) -> list[str]:
    first, second = tables.read_methods(reports / "table1.csv"), reports / "table2.csv"
    if second.exists():
        speed = [tables.page(tables.read(second)), _figure("speed", "Right is faster, up is better.")]
    else:
        speed = ["<p>Not measured yet: run dvc repro.</p>"]
    return [
        *(f"<p>{escape(sentence)}</p>" for sentence in tables.headline(first)),
        "<h2>Table 1: every method</h2>",
        tables.page(first),
        _figure("beams", "A short bar is a model that hardly needs the beam."),
        _figure("curves", "A model that follows the teacher may grow worse at human targets and yet translate better."),
        _figure("size", "Joined: the pruned models and the one they were pruned from."),
        "<h2>Table 2: speed</h2>",
        *speed,
        "<h2>Table 3: pruning</h2>",
        tables.page(tables.read(reports / "table3.csv")),
        _figure("pruning", "The smallest weights of the whole model are gone and stay gone while it is trained again."),
    ]


def _texts(reports: Path) -> list[str]:
    """The chosen texts that a model of Table 1 trained on."""
    return [row for row in dict.fromkeys(tables.read_methods(reports / "table1.csv")["text"]) if row != "human"]


def _figure(name: str, caption: str) -> str:
    image = f'<img src="plots/{name}.svg" alt="{escape(caption)}">'
    return f"<figure>{image}<figcaption>{escape(caption)}</figcaption></figure>"


def _audit(found: Audit) -> str:
    """An audit in words."""
    settings, sizes, length = found.settings, found.hypotheses_per_line, found.length_ratio
    smoothing = settings.smoothing + (f" {settings.smoothing_value:g}" if settings.smoothing_value else "")
    closest = {
        "score": "the one the teacher thinks likeliest",
        "bleu": f"the one closest to the human target by sentence BLEU (smoothing {smoothing})",
        "chrf": "the one closest to the human target by chrF",
    }[settings.metric]
    first = found.ranks[0] / found.lines
    faults = escape(", ".join(f"{name} {share:.2%}" for name, share in found.chosen.items()))
    sentences = [
        f"<b>{escape(found.row)}</b> takes for each of {found.lines:,} lines, from {sizes.mean:.1f} hypotheses"
        f" of {escape(settings.nbest)} ({sizes.distinct:.1f} different texts), {escape(closest)}.",
        f"That is the first in {first:.0%} of the lines, number {found.mean_rank + 1:.1f} on average;",
        f"in {found.ties:.1%} several were equally close,",
        f"in {found.no_overlap:.1%} the choice shares no word with the human target.",
        f"Against the human text, BLEU is {found.bleu_chosen:.1f} where the first have {found.bleu_first:.1f}",
        f"({found.oracle_gain:+.1f}), and the length {length.chosen:.3f} of it, the first {length.first:.3f}.",
        f"Faults among the chosen: {faults}.",
    ]
    return " ".join(sentences)


def _provenance(told: Mapping[str, Any]) -> str:
    """Where the text is from, how much of it there is, and what was dropped."""
    pairs = ", ".join(f"{name} {count:,}" for name, count in told.get("pairs", {}).items())
    rows = [("corpus", told.get("corpus", "")), ("pairs", pairs), ("split by seed", told.get("seed", ""))]
    rows += [("", ""), *_facts(told.get("origin", {}))]
    dropped = sorted(told.get("dropped", {}).items(), key=lambda item: -item[1])
    rows += [("", ""), *((f"dropped: {cause}", f"{count:,}") for cause, count in dropped)]
    return "<dl>" + "".join(f"<dt>{escape(str(it))}</dt><dd>{escape(str(value))}</dd>" for it, value in rows) + "</dl>"


def _facts(value: Any, name: str = "") -> list[tuple[str, Any]]:
    """A nested record as lines of name and value."""
    if isinstance(value, dict):
        return [fact for key, inner in value.items() for fact in _facts(inner, f"{name} {key}".strip())]
    if isinstance(value, list):
        return [fact for inner in value for fact in _facts(inner, name)]
    return [(name, value)]
