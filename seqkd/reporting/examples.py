"""Every test line with its translations and their sentence scores, packed for the page's examples browser."""

import base64
import gzip
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from seqkd.config.schema import Params
from seqkd.data.bitext import Pair
from seqkd.evaluation import evidence
from seqkd.evaluation import translations as test_translations
from seqkd.evaluation.evidence import SENTENCES
from seqkd.reporting import charts, results

MAX_BYTES = 1_120_000  # of the packed examples; a larger test set is shown in part


def build(pairs: Sequence[Pair], params: Params, *, translations: Path, folder: Path, best: str) -> dict[str, Any]:
    """Return the examples as the page's script reads them. folder: what the stage evidence wrote.

    Raises InputError where translations or sentence scores are missing or of another test set.
    """
    models = [each for each in (*params.models, *params.pruned) if test_translations.exist(translations, each)]
    beams = sorted(params.evaluate.beams)
    columns = [f"{model} {beam}" for model in models for beam in beams]
    scores = evidence.read_sentences(folder / SENTENCES, columns, lines=len(pairs))
    texts = [
        test_translations.read(translations, model, beam=beam, lines=len(pairs)) for model in models for beam in beams
    ]
    own_scores = zip(*(scores[column] for column in columns), strict=True)
    rows = zip(pairs, zip(*texts, strict=True), own_scores, strict=True)
    return {
        "best": best,
        "models": [{"name": model, "kind": charts.model_kind(params, model)} for model in models],
        "searches": [results.beam_name(beam) for beam in beams],
        # Each line: id, source, reference, outputs and their scores, for each model by each search. What is alike
        # stands together, so that it packs well.
        "lines": [[*pair, own, [round(score) for score in line_scores]] for pair, own, line_scores in rows],
    }


def pack(examples: Mapping[str, Any]) -> tuple[str, int]:
    """Return as many first lines as fit MAX_BYTES, as gzipped JSON in base64, and how many these are."""
    lines = len(examples["lines"])
    while len(packed := _pack(examples, lines)) > MAX_BYTES:
        lines = int(lines * 0.95 * MAX_BYTES / len(packed))
    return packed, lines


def _pack(examples: Mapping[str, Any], lines: int) -> str:
    shown = {**examples, "lines": examples["lines"][:lines]}
    content = json.dumps(shown, ensure_ascii=False, separators=(",", ":"))
    return base64.b64encode(gzip.compress(content.encode(), mtime=0)).decode()
