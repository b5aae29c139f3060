"""A teacher's sentencepiece model as the vocabulary: its own pieces, in our order of the special ones."""

from pathlib import Path
from typing import Any

import pytest
import sentencepiece

from seqkd.config.schema import VocabSettings
from seqkd.config.teachers import CTranslate2Teacher, TransformersTeacher
from seqkd.data.vocab import BOS, EOS, PAD, UNK, Vocab
from seqkd.teachers import vocabulary
from seqkd.utils.errors import InputError

pytest.importorskip("google.protobuf", reason="needs protobuf, as seqkd[transformers] brings it")

TEXTS = [f"the house number {number} is old, das Haus ist alt – §{number}" for number in range(60)]
MARIAN = {"eos_id": 0, "unk_id": 1, "bos_id": -1, "pad_id": -1}
T5 = {"pad_id": 0, "eos_id": 1, "unk_id": 2, "bos_id": -1}
MBART = {"unk_id": 0, "bos_id": 1, "eos_id": 2, "pad_id": -1}
OWN = {"pad_id": PAD, "unk_id": UNK, "bos_id": BOS, "eos_id": EOS}


def learn(path: Path, **settings: Any) -> sentencepiece.SentencePieceProcessor:
    """Write a sentencepiece model as others make them, with the normalizer that sentencepiece has by default."""
    path.parent.mkdir(exist_ok=True)
    with path.open("wb") as file:
        sentencepiece.SentencePieceTrainer.Train(
            sentence_iterator=iter(TEXTS), model_writer=file, vocab_size=80, hard_vocab_limit=False, minloglevel=2,
            **settings,
        )  # fmt: skip
    return sentencepiece.SentencePieceProcessor(model_file=str(path))


def teacher(folder: Path) -> TransformersTeacher:
    return TransformersTeacher(kind="transformers", model=str(folder))


def adopted(folder: Path, size: int) -> Vocab:
    return vocabulary.of_teacher("opus", teacher(folder), VocabSettings(size=size))


@pytest.mark.parametrize("model_type", ["unigram", "bpe"])
@pytest.mark.parametrize(("ids", "added"), [(MARIAN, 2), (T5, 1), (MBART, 1), (OWN, 0)])
def test_vocabulary_has_the_teachers_pieces_and_every_text_comes_back(
    tmp_path: Path, model_type: str, ids: dict[str, int], added: int
) -> None:
    own = learn(tmp_path / "spiece.model", model_type=model_type, **ids)
    pieces = adopted(tmp_path, own.get_piece_size() + added)
    by_id = pieces.pieces()
    assert [piece.text for piece in by_id[:4]] == ["<pad>", "<unk>", "<s>", "</s>"]
    assert [piece.kind for piece in by_id[:4]] == ["control", "unknown", "control", "control"]
    special = {"<pad>", "<unk>", "<s>", "</s>"}
    theirs = [(own.id_to_piece(id), own.get_score(id)) for id in range(own.get_piece_size())]
    assert [(piece.text, piece.score) for piece in by_id[4:]] == [each for each in theirs if each[0] not in special]
    for text in [*TEXTS, "old houses", "that is unknown: Ω"]:
        assert [by_id[id].text for id in pieces.encode(text)] == [own.id_to_piece(id) for id in own.encode(text)]
    assert [pieces.decode(pieces.encode(text), text).encode() for text in TEXTS] == [text.encode() for text in TEXTS]


def test_normalizer_of_the_teacher_stays(tmp_path: Path) -> None:
    own = learn(tmp_path / "spiece.model", **MBART)
    folding = adopted(tmp_path, own.get_piece_size() + 1)
    assert folding.decode(folding.encode("das iﬆ alt"), "") == "das ist alt"
    assert not folding.keeps_text
    own = learn(tmp_path / "spiece.model", normalization_rule_name="identity", **MBART)
    assert adopted(tmp_path, own.get_piece_size() + 1).keeps_text


def test_two_equal_models_are_one_and_two_different_ones_are_refused(tmp_path: Path) -> None:
    own = learn(tmp_path / "source.spm", **MARIAN)
    (tmp_path / "target.spm").write_bytes((tmp_path / "source.spm").read_bytes())
    assert adopted(tmp_path, own.get_piece_size() + 2).size == own.get_piece_size() + 2
    learn(tmp_path / "target.spm", model_type="bpe", **MARIAN)
    with pytest.raises(InputError, match=r"different sentencepiece models \(source\.spm, target\.spm\), and the stud"):
        adopted(tmp_path, own.get_piece_size() + 2)


def test_model_of_ctranslate2_gives_its_vocabulary_too(tmp_path: Path) -> None:
    own = learn(tmp_path / "sentencepiece.model", **MBART)
    converted = CTranslate2Teacher(kind="ctranslate2", model=str(tmp_path))
    size = own.get_piece_size() + 1
    assert vocabulary.of_teacher("opus", converted, VocabSettings(size=size)).size == size


def test_vocabulary_changes_with_the_teachers_weights_and_languages_alone(tmp_path: Path) -> None:
    size = learn(tmp_path / "spiece.model", **MBART).get_piece_size() + 1
    first = adopted(tmp_path, size).model
    assert adopted(tmp_path, size).model == first
    tmp_path.rename(tmp_path.with_name("elsewhere"))
    folder = tmp_path.with_name("elsewhere")
    assert adopted(folder, size).model == first
    german = teacher(folder).model_copy(update={"target_code": "de_DE"})
    assert vocabulary.of_teacher("opus", german, VocabSettings(size=size)).model != first
    (folder / "model.safetensors").write_bytes(b"other weights")
    assert adopted(folder, size).model != first


def test_another_size_is_refused_with_the_right_one(tmp_path: Path) -> None:
    right = learn(tmp_path / "spiece.model", **MBART).get_piece_size() + 1
    with pytest.raises(InputError, match=rf"vocab\.size is 16, but .* opus has {right} pieces .*; set it to {right}\."):
        adopted(tmp_path, 16)


def test_teacher_without_a_sentencepiece_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"has no sentencepiece model, so opus gives no vocabulary; remove vocab\.from"
    ):
        adopted(tmp_path, 80)
    (tmp_path / "spiece.model").write_bytes(b"no model")
    with pytest.raises(InputError, match=r"spiece\.model: not a sentencepiece model; copy it anew\."):
        adopted(tmp_path, 80)
    with pytest.raises(InputError, match=r"vocab\.from is opus, but Helsinki-NLP/opus is no folder; download"):
        vocabulary.of_teacher("opus", teacher(Path("Helsinki-NLP/opus")), VocabSettings(size=80))
