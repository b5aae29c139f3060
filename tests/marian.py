"""A random Marian model, small enough to be made in a test."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import sentencepiece
import torch

JOINT = 200  # pieces of a model that is learnt from texts, at most
LETTERS = "abcdefghijklmnopqrstuvwxyz"


def make(folder: Path, texts: Sequence[str] = ()) -> None:
    """Write the folder of a Marian model of transformers whose pieces are single letters.

    texts: both sides have one sentencepiece model learnt from them, and the model has its pieces in another order.
    """
    transformers = pytest.importorskip("transformers", reason="needs seqkd[transformers]")
    if texts:
        _joint_pieces(folder, texts)
    else:
        _letters(folder)
    pieces = sentencepiece.SentencePieceProcessor(model_file=str(folder / "source.spm"))
    order = range(pieces.get_piece_size())
    ids = {pieces.id_to_piece(number): place for place, number in enumerate(reversed(order) if texts else order)}
    pad = ids["<pad>"] = len(ids)
    (folder / "vocab.json").write_text(json.dumps(ids))
    model: Any = transformers.MarianMTModel(_config(transformers, pad, eos=ids["</s>"]))
    model.init_weights()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(
                torch.randn(parameter.shape, generator=torch.Generator().manual_seed(parameter.numel())) / 3
            )
        model.final_logits_bias[0, ids["</s>"]] = 1.0  # translations end
        model.final_logits_bias[0, pad] = -50  # CTranslate2 never writes it
        model.model.shared.weight[pad] = 0  # every Marian model begins with no word
    model.save_pretrained(folder)
    files = (str(folder / name) for name in ("source.spm", "target.spm", "vocab.json"))
    transformers.MarianTokenizer(*files, source_lang="en", target_lang="de").save_pretrained(folder)


def train(folder: Path, pairs: Sequence[tuple[str, str]], *, updates: int) -> None:
    """Train a model that `make` wrote, so that its translations end and depend on their sources."""
    transformers = pytest.importorskip("transformers", reason="needs seqkd[transformers]")
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModelForSeq2SeqLM.from_pretrained(folder).train()
    sources, targets = map(list, zip(*pairs, strict=True))
    batch = tokenizer(sources, text_target=targets, return_tensors="pt", padding=True)
    batch["labels"] = batch["labels"].masked_fill(batch["labels"] == tokenizer.pad_token_id, -100)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    torch.manual_seed(1)
    for _ in range(updates):
        optimizer.zero_grad()
        model(**batch).loss.backward()
        optimizer.step()
    model.save_pretrained(folder)


def _joint_pieces(folder: Path, texts: Sequence[str]) -> None:
    sentencepiece.SentencePieceTrainer.Train(
        sentence_iterator=iter(texts),
        model_prefix=str(folder / "joint"),
        vocab_size=JOINT,
        hard_vocab_limit=False,
        pad_id=-1,
        bos_id=-1,
        eos_id=0,
        unk_id=1,
        minloglevel=2,
    )
    for side in ("source", "target"):
        shutil.copy(folder / "joint.model", folder / f"{side}.spm")
    (folder / "joint.model").unlink()


def _letters(folder: Path) -> None:
    for side in ("source", "target"):
        sentencepiece.SentencePieceTrainer.Train(
            sentence_iterator=iter([LETTERS, *(f"{letter} {letter}" for letter in LETTERS)]),
            model_prefix=str(folder / side),
            vocab_size=len(LETTERS) + 3,
            model_type="char",
            pad_id=-1,
            bos_id=-1,
            eos_id=0,
            unk_id=1,
            add_dummy_prefix=False,  # a text has only one way to be written
            minloglevel=2,
        )
        (folder / f"{side}.model").rename(folder / f"{side}.spm")


def _config(transformers: Any, pad: int, *, eos: int) -> Any:
    return transformers.MarianConfig(
        vocab_size=pad + 1,
        d_model=16,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=32,
        decoder_ffn_dim=32,
        pad_token_id=pad,
        eos_token_id=eos,
        decoder_start_token_id=pad,
        forced_eos_token_id=None,
        max_position_embeddings=300,
    )
