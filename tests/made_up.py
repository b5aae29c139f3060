"""Scores made up for tests, and the evidence that the stage `evidence` would write of them."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from seqkd.evaluation.evidence import HUMAN, RECORD, SENTENCES
from seqkd.evaluation.robustness import FAULTS

LINES = 4
BLEU = {  # K=1, K=5
    "teacher": (28.0, 30.0),
    "teacher-near": (29.5, 30.25),
    "baseline": (18.0, 20.0),
    "words": (19.0, 20.5),
    "whole": (24.0, 24.5),
    "whole-near": (26.0, 26.5),
    "prune-0.5": (25.5, 26.0),
    "prune-0.9": (20.0, 20.5),
}
Scores = Mapping[str, Mapping[int, float]]  # BLEU by model and beam size


def certainty(bleu: float, model: str, best: str) -> dict[str, Any]:
    p = {"baseline": 0.001 if bleu > 20 else 0.2, "teacher": 0.001, "best": 0.04 if bleu < 25 else 0.3}
    own = {"baseline": "baseline", "teacher": "teacher", "best": best}
    record = {"half_width": 1.25, "p": {name: value for name, value in p.items() if own[name] != model}}
    return {"bleu": {"score": bleu, **record}, "chrf": {"score": bleu + 20, **record}}


def evidence_record(scores: Scores, *, best: str, pruned: str | None = None) -> dict[str, Any]:
    beams = sorted(scores["teacher"])
    rungs = [("teacher", "teacher", beams[-1]), ("best student", best, beams[-1]), ("best student", best, beams[0])]
    smallest = pruned or best
    rungs += [("50% pruned", smallest, beams[0])] if pruned else []
    ladder: list[dict[str, Any]] = [
        {"name": name, "model": model, "beam": beam, "bytes": 4_000_000 if model == "teacher" else 1_000_000}
        | {"bleu": scores[model][beam], "half_width": 1.25}
        | ({"step_value": -1.5, "step_half_width": 0.5, "step_p": 0.02} if number else {})
        for number, (name, model, beam) in enumerate(rungs)
    ]
    int8 = ladder[-1] | {"name": "weights in int8", "model": f"{smallest} in int8", "bytes": 250_000, "step_p": 0.6}
    output = {"text": "<i>aus</i>", "faults": ["numbers", "at_limit"]}
    by_beam = {model: dict.fromkeys(map(str, own), output) for model, own in scores.items()}
    faults = dict.fromkeys(FAULTS, 1)
    return {
        "lines": LINES,
        "resamples": 1000,
        "seed": 12345,
        "best": best,
        "certainty": {
            model: {str(beam): certainty(bleu, model, best) for beam, bleu in own.items()}
            for model, own in scores.items()
        },
        "kinds": [
            {
                "feature": "in the source",
                "name": name,
                "lines": lines,
                "bleu": {model: own[beams[-1]] for model, own in scores.items()},
            }
            for name, lines in (("a number", 1), ("neither", 3))
        ],
        "faults": {HUMAN: {"0": faults}}
        | {model: dict.fromkeys(map(str, own), faults) for model, own in scores.items()},
        "hard_lines": [{"kind": "markup", "source": "<b>off</b>", "outputs": by_beam}],
        "ladder": [*ladder, int8],
    }


def write_evidence(folder: Path, scores: Scores, *, best: str, pruned: str | None = None) -> None:
    """Write evidence.json and sentences.csv."""
    folder.mkdir()
    (folder / RECORD).write_text(json.dumps(evidence_record(scores, best=best, pruned=pruned)))
    columns = [f"{model} {beam}" for model, own in scores.items() for beam in own]
    lines = [",".join(["id", *columns])]
    lines += [
        ",".join([str(line), *(f"{(17 * line + 7 * place) % 100}.5" for place in range(len(columns)))])
        for line in range(LINES)
    ]
    (folder / SENTENCES).write_text("\n".join(lines) + "\n")
