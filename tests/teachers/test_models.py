from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import marian as random_marian
import pytest
import torch

from seqkd.config.machine import Machine
from seqkd.config.schema import DecodeSettings
from seqkd.config.teachers import CTranslate2Teacher, TransformersTeacher
from seqkd.data.text_lists import TextHypothesis
from seqkd.teachers import ctranslate2_teacher, transformers_teacher
from seqkd.utils.errors import InputError

pytestmark = pytest.mark.slow

SOURCES = ["a house", "the old house", "z", "a much longer sentence than all of the others"]
BEAM = DecodeSettings(beam=4)
ONE = Machine(processes=1)
Lists = dict[str, list[TextHypothesis]]
Translate = Callable[..., Iterator[list[tuple[str, list[TextHypothesis]]]]]


def lists(translate: Translate, teacher: object, settings: DecodeSettings, *chunks: list[str]) -> Lists:
    found = translate(teacher, settings, ONE, chunks or [SOURCES])
    return {source: hypotheses for chunk in found for source, hypotheses in chunk}


@pytest.fixture(scope="module")
def marian(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("marian")
    random_marian.make(folder)
    return folder


@pytest.fixture(scope="module")
def by_transformers(marian: Path) -> TransformersTeacher:
    return TransformersTeacher(kind="transformers", model=str(marian))


@pytest.fixture(scope="module")
def by_ctranslate2(marian: Path, tmp_path_factory: pytest.TempPathFactory) -> CTranslate2Teacher:
    ctranslate2 = pytest.importorskip("ctranslate2", reason="needs seqkd[ctranslate2]")
    folder = tmp_path_factory.mktemp("converted") / "model"
    converter = ctranslate2.converters.TransformersConverter(str(marian), copy_files=["source.spm", "target.spm"])
    converter.convert(str(folder))
    return CTranslate2Teacher(kind="ctranslate2", model=str(folder))


def forced_score(model: Any, tokenizer: Any, source: str, target: str) -> float:
    """The log-probability of a target that model(input_ids, labels=) sums over its pieces."""
    labels = tokenizer(text_target=[target], return_tensors="pt")["input_ids"]
    with torch.no_grad():
        loss = model(**tokenizer([source], return_tensors="pt"), labels=labels).loss
    return -float(loss) * int(labels.shape[1])


def test_scores_of_transformers_are_the_summed_log_probabilities(by_transformers: TransformersTeacher) -> None:
    transformers = pytest.importorskip("transformers")
    model = transformers.AutoModelForSeq2SeqLM.from_pretrained(by_transformers.model).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(by_transformers.model)
    compared = 0
    for source, hypotheses in lists(transformers_teacher.translate, by_transformers, BEAM).items():
        assert len(hypotheses) == 4
        scores = [hypothesis.score for hypothesis in hypotheses]
        assert scores == sorted(scores, key=lambda score: -(score or 0.0))
        for text, score, finished in hypotheses:
            if finished and " " not in text:  # a space at an end, which no text shows, is a piece too
                assert score == pytest.approx(forced_score(model, tokenizer, source, text), abs=2e-3)
                compared += 1
    assert compared >= 6


def test_scores_of_ctranslate2_are_those_of_transformers(
    by_transformers: TransformersTeacher, by_ctranslate2: CTranslate2Teacher
) -> None:
    expected = lists(transformers_teacher.translate, by_transformers, BEAM)
    for source, hypotheses in lists(ctranslate2_teacher.translate, by_ctranslate2, BEAM).items():
        assert [each.text for each in hypotheses] == [each.text for each in expected[source]]
        for found, wanted in zip(hypotheses, expected[source], strict=True):
            assert found.score == pytest.approx(wanted.score, abs=2e-3)


def test_beam_of_one_has_a_summed_score_too(
    by_transformers: TransformersTeacher, by_ctranslate2: CTranslate2Teacher
) -> None:
    greedy = DecodeSettings(beam=1)
    expected = lists(transformers_teacher.translate, by_transformers, greedy)
    for source, (best,) in lists(ctranslate2_teacher.translate, by_ctranslate2, greedy).items():
        assert best.text == expected[source][0].text
        assert best.score == pytest.approx(expected[source][0].score, rel=1e-4)


def test_order_follows_the_length_penalty_of_the_row(by_transformers: TransformersTeacher) -> None:
    plain = lists(transformers_teacher.translate, by_transformers, BEAM)
    normalized = lists(transformers_teacher.translate, by_transformers, DecodeSettings(beam=4, length_penalty=1.0))
    assert plain != normalized
    assert {source: set(each) for source, each in plain.items()} == {
        source: set(each) for source, each in normalized.items()
    }


def test_keys_differ_by_model_search_and_language(marian: Path, tmp_path: Path) -> None:
    teacher = TransformersTeacher(kind="transformers", model=str(marian))
    other = TransformersTeacher(kind="transformers", model=str(tmp_path))
    german = teacher.model_copy(update={"target_code": ">>de<<"})
    keys = [transformers_teacher.key(each, BEAM) for each in (teacher, other, german)]
    keys.append(transformers_teacher.key(teacher, DecodeSettings(beam=5)))
    assert len(set(keys)) == 4


def test_model_that_is_not_there_is_not_downloaded(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    teacher = TransformersTeacher(kind="transformers", model="nobody/nothing")
    with pytest.raises(InputError, match=r"nobody/nothing: transformers cannot load it .* allow_download: true"):
        lists(transformers_teacher.translate, teacher, BEAM)


def test_weights_that_are_pickled_are_refused(marian: Path, tmp_path: Path) -> None:
    for path in marian.iterdir():
        if path.name != "model.safetensors":
            (tmp_path / path.name).write_bytes(path.read_bytes())
    torch.save({}, tmp_path / "pytorch_model.bin")
    with pytest.raises(InputError, match="transformers cannot load it"):
        lists(transformers_teacher.translate, TransformersTeacher(kind="transformers", model=str(tmp_path)), BEAM)


def test_folder_without_a_model_or_its_pieces_is_refused(by_ctranslate2: CTranslate2Teacher, tmp_path: Path) -> None:
    teacher = CTranslate2Teacher(kind="ctranslate2", model=str(tmp_path))
    with pytest.raises(InputError, match=r"has no model\.bin, so it is no model of CTranslate2; convert"):
        lists(ctranslate2_teacher.translate, teacher, BEAM)
    (tmp_path / "model.bin").write_bytes((Path(by_ctranslate2.model) / "model.bin").read_bytes())
    with pytest.raises(InputError, match="has no sentencepiece model; put"):
        lists(ctranslate2_teacher.translate, teacher, BEAM)
