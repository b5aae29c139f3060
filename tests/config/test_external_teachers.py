"""Rows with external teachers: whose vocabulary and whose distribution there can be."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from source_tree import ROOT

from seqkd.config import load
from seqkd.config.schema import Params
from seqkd.utils.errors import InputError

TEACHERS = {
    "vendor": {"kind": "files", "lists": "x"},
    "opus": {"kind": "ctranslate2", "model": "opus"},
    "marian": {"kind": "transformers", "model": "marian"},
}


def read(
    folder: Path, *, source: str | None, top_k: int = 16, alpha: float = 0.5, trained: bool = False, **vocab: Any
) -> Params:
    """Load settings with a Word-KD row and external teachers; source: the teacher that gives the vocabulary."""
    values = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    rows = {name: {"teacher": name, "beam": 2} for name in TEACHERS}
    values["teachers"], values["decode"] = TEACHERS, rows | ({"own": {"beam": 2}} if trained else {})
    values["select"] = {"text": {"nbest": "vendor", "metric": "score"}}
    values["distill"] = {"words": {"train_text": "reference", "alpha": alpha, "top_k": top_k}}
    values["finetune"] = {}
    values["prune"] = {"model": "words", "ratios": [], "retrain": "text", "finetune": "text"}
    values["speed"]["models"] = ["words", *(["teacher"] if trained else [])]
    values["vocab"] = {"size": 2000, **vocab, **({"from": source} if source else {})}
    (folder / "params.yaml").write_text(yaml.safe_dump(values, sort_keys=False), encoding="utf-8")
    return load.params(folder / "params.yaml")


def test_only_the_trained_teacher_leaves_lines_out(tmp_path: Path) -> None:
    values = read(tmp_path, source="marian").model_dump(by_alias=True, exclude_none=True)
    values["decode"]["vendor"]["monolingual"] = False
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")
    with pytest.raises(InputError, match=r"decode\.vendor\.monolingual is false, but only the trained teacher can"):
        load.params(tmp_path / "params.yaml")


def test_word_kd_asks_the_teacher_whose_vocabulary_it_is(tmp_path: Path) -> None:
    params = read(tmp_path, source="marian")
    assert params.word_teacher is not None
    assert params.word_teacher.name == "marian"
    assert params.word_teacher.settings == params.teachers["marian"]


def test_word_kd_asks_the_trained_teacher_where_there_is_one(tmp_path: Path) -> None:
    for source in ("marian", "opus", None):
        assert read(tmp_path, source=source, trained=True, top_k=0).word_teacher is None


def test_rows_without_word_kd_need_nobody(tmp_path: Path) -> None:
    assert read(tmp_path, source="opus", alpha=0.0, top_k=0).word_teacher is None


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"source": None}, "distill.words.alpha is 0.5, but Word-KD needs a teacher of the students' vocabulary, and "
                           "vendor, opus, marian has another; set it to 0, or train a teacher too"),
        ({"source": "opus"}, "distill.words.alpha is 0.5, but CTranslate2 gives no distribution of opus; set it to 0, "
                             "or name the same model as a teacher of kind transformers."),
        ({"source": "marian", "top_k": 0}, "distill.words.alpha is 0.5, but of marian's distribution only the "
                                           "likeliest pieces are stored; add top_k to the row, such as top_k: 16."),
        ({"source": "vendor"}, "vocab.from is 'vendor'; it must be a teacher of kind transformers or ctranslate2 "
                               "(opus, marian)."),
        ({"source": "nobody"}, "vocab.from is 'nobody'; it must be a teacher of kind"),
        ({"source": "marian", "byte_fallback": True}, "vocab.byte_fallback is for a vocabulary that is learnt; remove"),
        ({"source": "marian", "character_coverage": "auto"}, "vocab.character_coverage is for a vocabulary that is"),
        ({"source": "../x"}, "vocab.from is '../x'; it must be at most 64 letters"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_with_the_row(tmp_path: Path, given: dict[str, Any], told: str) -> None:
    with pytest.raises(InputError) as error:
        read(tmp_path, **given)
    assert str(error.value).startswith(f"{tmp_path}/params.yaml: {told}")
    assert str(error.value).count("\n") == 0
