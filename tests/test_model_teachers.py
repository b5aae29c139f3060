"""The whole pipeline with teachers that are models of transformers and CTranslate2, at its smallest, by DVC itself."""

import json

import marian
import pytest

from benchmarks import tiny
from benchmarks.tiny import Project
from seqkd.data import text_lists, vocab

pytestmark = [pytest.mark.slow, pytest.mark.dvc]
pytest.importorskip("transformers", reason="needs seqkd[transformers]")
pytest.importorskip("ctranslate2", reason="needs seqkd[ctranslate2]")
pytest.importorskip("google.protobuf", reason="needs protobuf, as seqkd[transformers] brings it")

PIECES = 202  # 200 of the sentencepiece model and two special ones that Marian lacks
ROWS = {
    "vocab": {"size": PIECES, "from": "marian"},
    "teachers": {
        "marian": {"kind": "transformers", "model": "opus-mt"},
        "opus": {"kind": "ctranslate2", "model": "opus-mt-ct2"},
    },
    "decode": {"marian": {"teacher": "marian", "beam": 2}, "opus": {"teacher": "opus", "beam": 2}},
    "select": {
        "first": {"nbest": "marian", "metric": "score"},
        "near": {"nbest": "opus", "metric": "chrf"},
    },
    "mix": {},
    "distill": {
        "whole": {"train_text": "near", "alpha": 0.0},
        "words": {"train_text": "first", "alpha": 0.5, "top_k": 8},
    },
    "finetune": {"whole-words": {"train_text": "first", "alpha": 0.25, "top_k": 8, "init_from": "whole"}},
    "prune": {"model": "words", "ratios": [], "retrain": "first", "finetune": "first"},
    "evaluate": {"beams": [1]},
    "speed": {"models": ["words"], "sentences": 2, "rounds": 1},
}
CONVERT = "ct2-transformers-converter --model opus-mt --copy_files source.spm target.spm --output_dir opus-mt-ct2"


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project of a small Marian model, once as it is and once converted, run once."""
    made = tiny.copy(tmp_path_factory.mktemp("models") / "project")
    made.run("dvc", "repro", "preprocess")
    lines = (made.folder / "data/text/reference.tsv").read_text("utf-8").splitlines()
    (made.folder / "opus-mt").mkdir()
    pairs = [(source, target) for _, source, target in (line.split("\t") for line in lines)]
    marian.make(made.folder / "opus-mt", [side for pair in pairs for side in pair])
    marian.train(made.folder / "opus-mt", pairs[:40], updates=200)
    made.run(*CONVERT.split())
    made.write(made.read() | ROWS)
    made.run("dvc", "repro")
    return made


def test_teachers_have_their_rows_and_none_is_trained(project: Project) -> None:
    rows = (project.folder / "reports/table1.csv").read_text("utf-8").splitlines()
    assert [row.split(",")[0] for row in rows[1:]] == ["marian", "opus", "baseline", "whole", "words", "whole-words"]
    assert [row.split(",")[3] for row in rows[1:3]] == ["transformers", "ctranslate2"]


def test_both_libraries_give_the_same_translations(project: Project) -> None:
    text, lists = project.folder / "data/text/reference.tsv", project.folder / "data/external"
    best = {name: list(text_lists.best(lists / name / name, text)) for name in ("marian", "opus")}
    assert best["marian"] == best["opus"]
    assert len({*best["marian"]}) > 10


def test_students_have_the_teachers_pieces(project: Project) -> None:
    joint = vocab.load(project.folder / "data/vocab/joint.model")
    assert joint.size == PIECES
    theirs = json.loads((project.folder / "opus-mt/vocab.json").read_text())
    assert {piece.text for piece in joint.pieces()} == {*theirs, "<s>"}
    for model in ("baseline", "words", "whole-words"):
        assert (project.folder / f"models/{model}/vocab.model").read_bytes() == joint.model


def test_distribution_is_stored_once_for_a_text(project: Project) -> None:
    assert len(list((project.folder / ".dvc/tmp/resume/external_top_k_targets").iterdir())) == 1
    for model in ("words", "whole-words"):
        assert "marian" in (project.folder / f"models/{model}/README.md").read_text()
    rows = (project.folder / "reports/table1.csv").read_text("utf-8").splitlines()
    assert [row.split(",")[2] for row in rows[4:]] == ["NLL", "0.5 NLL + 0.5 Word-KD", "0.75 NLL + 0.25 Word-KD"]


def test_second_run_changes_nothing(project: Project) -> None:
    before = project.lock
    project.run("dvc", "repro")
    assert project.lock == before
