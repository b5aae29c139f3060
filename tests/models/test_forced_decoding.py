"""The distribution of a model of transformers under forced decoding, in the pieces of our vocabulary."""

import json
from pathlib import Path

import marian
import pytest
import sentencepiece
import torch
from torch import Tensor

from seqkd.config.machine import Machine
from seqkd.config.schema import VocabSettings
from seqkd.config.teachers import TransformersTeacher
from seqkd.data.batches import TokenizedCorpus
from seqkd.data.vocab import EOS, Vocab
from seqkd.models import forced_decoding
from seqkd.models.forced_decoding import ForcedDecoder
from seqkd.teachers import vocabulary
from seqkd.utils.errors import InputError

pytestmark = pytest.mark.slow
transformers = pytest.importorskip("transformers", reason="needs seqkd[transformers]")

SOURCES = ["the old house is red", "a cat", "the cat sat on the mat and the house is old"]
TARGETS = ["das alte Haus ist rot", "die Katze saß auf der Matte und das Haus ist alt", "Haus"]
ONE = Machine(processes=1)
SIZE = 38  # pieces


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("marian")
    marian.make(made, [*SOURCES, *TARGETS] * 20)
    return made


@pytest.fixture
def copied(folder: Path, tmp_path: Path) -> Path:
    for path in folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    return tmp_path


def change(path: Path, **values: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def teacher(folder: Path, **codes: str) -> TransformersTeacher:
    return TransformersTeacher(kind="transformers", model=str(folder), **codes)


def loaded(folder: Path, **codes: str) -> tuple[ForcedDecoder, Vocab]:
    own = teacher(folder, **codes)
    vocab = vocabulary.of_teacher("opus", own, VocabSettings(size=SIZE))
    return forced_decoding.load(own, vocab, ONE), vocab


def stored(decoder: ForcedDecoder, vocab: Vocab, *, k: int = 6) -> dict[str, Tensor]:
    text = TokenizedCorpus(vocab.encode_all(SOURCES), vocab.encode_all(TARGETS))
    told: list[int] = []
    found = forced_decoding.top_k(decoder, SOURCES, text, k=k, report=told.append)
    assert sum(told) == len(SOURCES)
    assert found["ids"].shape == (sum(len(ids) + 1 for ids in text.targets), k)
    return found


def plain(decoder: ForcedDecoder, vocab: Vocab, *, first: str | None = None, forbidden: int | None = None) -> Tensor:
    """Probabilities of our pieces at every target token, (tokens, V), sentence by sentence, in float64."""
    tokenizer, model = decoder.tokenizer, decoder.model.double()
    start = [model.config.decoder_start_token_id, *([] if first is None else [tokenizer.get_vocab()[first]])]
    theirs: dict[str, int] = tokenizer.get_vocab()
    rows = []
    for source, target in zip(SOURCES, vocab.encode_all(TARGETS), strict=True):
        pieces = [vocab.pieces()[id].text for id in target]
        given = torch.tensor([[*start, *(theirs.get(piece, theirs["<unk>"]) for piece in pieces)]])
        with torch.no_grad():
            logits = model(**tokenizer([source], return_tensors="pt"), decoder_input_ids=given).logits[0]
        if forbidden is not None:
            logits[:, forbidden] = -torch.inf
        rows.append(logits.softmax(-1)[len(start) - 1 :])
    whole, ours = torch.cat(rows), torch.zeros(sum(map(len, rows)), vocab.size, dtype=torch.double)
    for id, piece in enumerate(vocab.pieces()):
        if piece.text in theirs and piece.text not in ("<pad>", "<s>"):
            ours[:, id] = whole[:, theirs[piece.text]]
    decoder.model.float()
    return ours


def compare(found: dict[str, Tensor], expected: Tensor) -> None:
    values, ids = expected.topk(found["ids"].shape[1])
    assert torch.equal(found["ids"].long(), ids)
    rest = 1 - values.sum(-1, keepdim=True)
    torch.testing.assert_close(found["probs"].double(), torch.cat((values, rest), 1), rtol=1e-3, atol=1e-6)


def test_stored_pieces_are_those_of_a_plain_pass_over_each_sentence(folder: Path) -> None:
    decoder, vocab = loaded(folder)
    own = decoder.ids[4:].tolist()
    assert sorted(own) != own  # the model has its pieces in another order
    compare(stored(decoder, vocab), plain(decoder, vocab))


def test_stored_pieces_do_not_depend_on_the_batches(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decoder, vocab = loaded(folder)
    expected = plain(decoder, vocab)
    monkeypatch.setattr(forced_decoding, "MAX_LOGITS", 1)  # each sentence comes alone
    compare(stored(decoder, vocab), expected)


def test_end_of_the_sentence_is_a_piece_like_any_other(folder: Path) -> None:
    decoder, vocab = loaded(folder)
    with torch.no_grad():
        decoder.model.final_logits_bias[0, decoder.tokenizer.eos_token_id] = 50.0
    assert stored(decoder, vocab)["ids"][:, 0].tolist() == [EOS] * len(plain(decoder, vocab))


def test_probability_of_pieces_that_only_one_side_has_is_in_the_rest(copied: Path) -> None:
    ids = json.loads((copied / "vocab.json").read_text())
    (copied / "vocab.json").write_text(json.dumps({"gone" if piece == "▁" else piece: id for piece, id in ids.items()}))
    decoder, vocab = loaded(copied)
    with torch.no_grad():
        decoder.model.final_logits_bias[0, ids["▁"]] = 9.0
    found = stored(decoder, vocab)
    assert vocab.encode("a b")[0] not in found["ids"]
    assert float(found["probs"][:, -1].min()) > 0.5
    compare(found, plain(decoder, vocab))


def test_padding_that_a_model_never_writes_takes_no_probability(copied: Path) -> None:
    pad = json.loads((copied / "vocab.json").read_text())["<pad>"]
    change(copied / "generation_config.json", bad_words_ids=[[pad]])
    decoder, vocab = loaded(copied)
    with torch.no_grad():
        decoder.model.final_logits_bias[0, pad] = 5.0
    compare(stored(decoder, vocab), plain(decoder, vocab, forbidden=pad))


def test_language_stands_before_the_target_and_is_not_predicted(folder: Path) -> None:
    decoder, vocab = loaded(folder, target_code="t")  # any piece does
    compare(stored(decoder, vocab), plain(decoder, vocab, first="t"))


def test_language_that_the_model_does_not_know_is_refused(folder: Path) -> None:
    decoder, vocab = loaded(folder, target_code="deu_Latn")
    with pytest.raises(InputError, match="has no language 'deu_Latn'; write target_code as the model calls it"):
        stored(decoder, vocab)


def test_model_with_other_special_ids_and_a_padded_output_has_the_same_order(tmp_path: Path) -> None:
    t5(tmp_path)
    decoder, vocab = loaded(tmp_path)
    assert decoder.vocab_size == 64 > vocab.size
    pieces = [vocab.pieces()[id].text for id in vocab.encode(TARGETS[0])]
    assert pieces == decoder.tokenizer.tokenize(TARGETS[0])
    compare(stored(decoder, vocab), plain(decoder, vocab))


def t5(folder: Path) -> None:
    """Write the folder of a random T5 model: padding 0, end 1, unknown 2, no start, more ids than pieces."""
    with (folder / "spiece.model").open("wb") as file:
        sentencepiece.SentencePieceTrainer.Train(
            sentence_iterator=iter([*SOURCES, *TARGETS] * 20), model_writer=file, vocab_size=60, minloglevel=2,
            hard_vocab_limit=False, pad_id=0, eos_id=1, unk_id=2, bos_id=-1,
        )  # fmt: skip
    sizes = {"d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 1, "num_heads": 2}
    config = transformers.T5Config(vocab_size=64, decoder_start_token_id=0, **sizes)
    model = transformers.T5ForConditionalGeneration(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(parameter.numel())))
    model.save_pretrained(folder)
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "T5Tokenizer", "extra_ids": 0}))


def test_line_that_is_too_long_for_the_model_is_refused(folder: Path) -> None:
    decoder, vocab = loaded(folder)
    text = TokenizedCorpus([vocab.encode("a cat")], [vocab.encode("Haus") * 300])
    with pytest.raises(InputError, match=r"reads 297 pieces at most, and a line has \d+; lower data\.max_length\."):
        forced_decoding.top_k(decoder, ["a cat"], text, k=3, report=print)


def test_tokenizer_of_other_pieces_is_refused(copied: Path) -> None:
    ids = json.loads((copied / "vocab.json").read_text())
    special = {"<pad>", "<unk>", "</s>"}
    (copied / "vocab.json").write_text(json.dumps({p if p in special else f"x{p}": id for p, id in ids.items()}))
    with pytest.raises(InputError, match="its tokenizer has other pieces than its sentencepiece model"):
        loaded(copied)
