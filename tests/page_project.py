"""A page of made-up results with a hostile corpus: markup, scripts, right-to-left text, emoji, very long lines."""

import json
from pathlib import Path

from made_up import BLEU

from seqkd.config.schema import Params
from seqkd.data.bitext import Pair
from seqkd.evaluation.measurements import Speed
from seqkd.reporting import charts, examples, html_page, tables
from seqkd.reporting.html_page import Content
from seqkd.reporting.results import Results

ABOUT = {
    "corpus": "corpora/made-up.yaml",
    "source": "en",
    "target": "de",
    "pairs": {"train": 16000, "dev": 1000, "test": 1000},
    "dropped": {"too <long>": 7, "repeated": 12},
    "origin": {"packages": [{"package": "made-up", "licence": "MIT", "version": "1.0"}]},
}
PAIRS = [
    Pair(
        3, "Close </script><script>window.hacked = 1</script> now", "Schließe <img src=x onerror='window.hacked = 2'> 5"
    ),
    Pair(4, "The door is open .", "Die Tür ist offen ."),
    Pair(8, "مرحبا بالعالم 12 \u202e evil", "שלום 12 👩‍👩‍👧‍👦 {{ 7 * 7 }} ${x}"),
    Pair(9, "long " * 2000, "lang" * 2500),
]


_DRAWN: dict[str, bytes] = {}


class Page:
    """The reports of made-up results, and how to write the page from them."""

    def __init__(self, reports: Path, params: Params, results: Results, pairs: list[Pair]) -> None:
        self.reports, self.params, self.results, self.pairs = reports, params, results, pairs
        scores, evidence = results.scores, results.evidence
        (reports / "about.json").write_text(json.dumps(ABOUT))
        speeds = [
            Speed(model=model, beam=beam, words_per_second=400.0 / beam, measured="mine")
            for model in ("teacher", "whole-near")
            for beam in (1, 5)
        ]
        tables.write(tables.method_table(params, scores, evidence), reports, "table1")
        tables.write(tables.speed_table(speeds, scores), reports, "table2")
        tables.write(tables.pruning_table(params, scores, evidence), reports, "table3")
        tables.write(tables.ladder_table(evidence, speeds), reports, "ladder")
        tables.write(tables.fault_table(params, evidence), reports, "faults")
        if not _DRAWN:  # once: the charts are the same for every test
            charts.write(params, results, reports / "plots")
            charts.write_speed(speeds, scores, reports / "plots")
            _DRAWN.update({path.name: path.read_bytes() for path in (reports / "plots").iterdir()})
        (reports / "plots").mkdir(exist_ok=True)
        for name, content in _DRAWN.items():
            (reports / "plots" / name).write_bytes(content)
        for model in BLEU:
            for beam in (1, 5):
                path = reports / "translations" / model / f"beam{beam}.txt"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text("".join(f"{text}\n" for text in self.translation(model, beam=beam)))
        self.content = self.build()

    def translation(self, model: str, *, beam: int) -> list[str]:
        """A model's translations: of the teacher the references, of others these with words added."""
        added = {"teacher": "", "baseline": " <b>fett</b>"}.get(model, f" {beam} <i>und</i>")
        return [pair.target + added for pair in self.pairs]

    def build(self) -> Content:
        shown = examples.build(
            self.pairs,
            self.params,
            translations=self.reports / "translations",
            folder=self.reports / "evidence",
            best=self.results.evidence.best,
        )
        audits = [self.reports / "audit" / f"{row}.json" for row in self.params.select]
        return Content(self.results.evidence, shown, audits, self.reports / "about.json")

    def write(self) -> str:
        html_page.write(self.reports, self.content)
        return (self.reports / "index.html").read_text(encoding="utf-8")
