"""Made-up rows and results for the tests of seqkd.reporting, and the profiles of hypothesis."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from made_up import BLEU, write_evidence
from page_project import PAIRS, Page
from source_tree import ROOT

from seqkd.config import load
from seqkd.config.schema import DecodeSettings, DistillSettings, FinetuneSettings, Params, PruneSettings, SelectSettings
from seqkd.ops import matmul
from seqkd.reporting import results
from seqkd.reporting.results import Results

# A few examples in every run; `pytest tests/test_fuzz.py --hypothesis-profile=minute` for many.
_QUIET: dict[str, Any] = {"deadline": None, "database": None, "suppress_health_check": list(HealthCheck)}
settings.register_profile("short", max_examples=30, derandomize=True, **_QUIET)
settings.register_profile("minute", max_examples=200, **_QUIET)
settings.load_profile("short")


@pytest.fixture(autouse=True)
def _fp32() -> Iterator[None]:
    """Take back the precision that a stage has set in this process, whatever the order of the tests."""
    yield
    matmul.set_backend("auto", "fp32")


@pytest.fixture(scope="session")
def params() -> Params:
    """The project's settings with rows of the tests' own: five methods, two pruned models."""
    rows: dict[str, Any] = {
        "decode": {f"k{beam}": DecodeSettings(beam=beam, length_penalty=1.0) for beam in (5, 35)},
        "select": {
            "mode": SelectSettings(nbest="k5", metric="score"),
            "near": SelectSettings(nbest="k35", metric="bleu"),
        },
        "distill": {
            "words": DistillSettings(train_text="reference", alpha=0.5),
            "whole": DistillSettings(train_text="mode", alpha=0.0),
        },
        "finetune": {
            "whole-near": FinetuneSettings(train_text="near", alpha=0.25, init_from="whole"),
            "teacher-near": FinetuneSettings(train_text="near", alpha=0.0, init_from="teacher"),
        },
        "prune": PruneSettings(model="whole-near", ratios=[0.5, 0.9], retrain="mode", finetune="near"),
    }
    own = load.params(ROOT / "params.yaml")
    return own.model_copy(update={**rows, "evaluate": own.evaluate.model_copy(update={"beams": [1, 5]})})


def scores_record(model: str) -> dict[str, Any]:
    size = 4_000_000 if model.startswith("teacher") else 1_000_000
    remaining = round(size * (1 - float(model.removeprefix("prune-")))) if model.startswith("prune-") else size
    beams = {
        beam: {"bleu": bleu, "chrf": bleu + 20, "length_ratio": 0.97}
        for beam, bleu in zip("15", BLEU[model], strict=True)
    }
    numbers = {"perplexity": 12.345, "mode_probability": 0.0625, "bytes": 4 * remaining + 100}
    signatures = {"signature_bleu": "nrefs:1|tok:13a", "signature_chrf": "nrefs:1|nc:6"}
    return {"model": model, "parameters": size, "remaining": remaining, "beams": beams, **numbers, **signatures}


def audit_record(row: str, metric: str, ranks: list[int]) -> dict[str, Any]:
    faults = {"empty": 0.0, "truncated": 0.01, "unknown": 0.0}
    return {
        "row": row,
        "settings": {"nbest": "k9", "metric": metric, "smoothing": "add-k", "smoothing_value": 1.0},
        "lines": sum(ranks),
        "hypotheses": len(ranks) * sum(ranks),
        "hypotheses_per_line": {"least": len(ranks), "mean": len(ranks), "most": len(ranks), "distinct": 2.5},
        "ranks": ranks,
        "mean_rank": 0.5,
        "ties": 0.02,
        "no_overlap": 0.001,
        "bleu_chosen": 45.25,
        "bleu_first": 40.0,
        "oracle_gain": 5.25,
        "signature": "nrefs:1|tok:13a",
        "length_ratio": {"chosen": 0.98, "first": 0.95},
        "chosen": faults,
        "all": faults,
    }


@pytest.fixture
def results_folder(tmp_path: Path) -> Path:
    """A folder with evidence, and scores, curves and audit of every row and of one that params no longer names."""
    for name in ("scores", "curves", "audit"):
        (tmp_path / name).mkdir()
    for model in BLEU:
        (tmp_path / "scores" / f"{model}.json").write_text(json.dumps(scores_record(model)))
        lines = [f"{epoch},{100 * epoch},0.001,3.5,{100 / epoch + BLEU[model][0]}" for epoch in range(1, 6)]
        text = "\n".join(["epoch,updates,learning_rate,train_loss,dev_perplexity", *lines])
        (tmp_path / "curves" / f"{model}.csv").write_text(text + "\n")
    for row, metric, ranks in (("mode", "score", [100, 0, 0]), ("near", "bleu", [50, 30, 20])):
        (tmp_path / "audit" / f"{row}.json").write_text(json.dumps(audit_record(row, metric, ranks)))
    scores = {model: dict(zip((1, 5), bleu, strict=True)) for model, bleu in BLEU.items()}
    write_evidence(tmp_path / "evidence", scores, best="whole-near", pruned="prune-0.5")
    for stale in ("scores/gone.json", "curves/gone.csv", "audit/gone.json"):
        (tmp_path / stale).write_text("no longer a row")
    return tmp_path


@pytest.fixture
def all_results(results_folder: Path, params: Params) -> Results:
    return Results(
        results.scores(results_folder / "scores", params),
        results.curves(results_folder / "curves", params),
        results.audits(results_folder / "audit", params),
        results.evidence(results_folder / "evidence", params),
    )


@pytest.fixture
def page(results_folder: Path, params: Params, all_results: Results) -> Page:
    """The page of made-up results, with lines that try to break it."""
    return Page(results_folder, params, all_results, PAIRS)
