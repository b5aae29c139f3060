"""Batches of sentences alike in length, and one batch as tensors."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, Self

import torch
from torch import Tensor
from torch.nn import functional as F

from seqkd.data import bitext
from seqkd.data.vocab import BOS, EOS, PAD, Vocab
from seqkd.utils.errors import InputError


class Batch(NamedTuple):
    """B sentence pairs; S and T are the longest source and target, marks included in the target."""

    rows: list[int]  # positions in the text
    source: Tensor  # (S, B) ids, padded on the left
    decoder_input: Tensor  # (T, B) ids, BOS first, padded on the right
    labels: Tensor  # (T, B) ids, EOS last, padded on the right

    def to(self, device: torch.device) -> Self:
        return self._replace(
            source=self.source.to(device), decoder_input=self.decoder_input.to(device), labels=self.labels.to(device)
        )

    def padded(self, step: int) -> Self:
        """The same batch, its source and target padded to a multiple of step."""
        left = F.pad(self.source, (0, 0, -len(self.source) % step, 0), value=PAD)
        right = (F.pad(it, (0, 0, 0, -len(it) % step), value=PAD) for it in (self.decoder_input, self.labels))
        return type(self)(self.rows, left, *right)

    def target_positions(self, multiple: int = 1) -> tuple[Tensor, Tensor]:
        """Return where in labels.flatten() the words to predict stand, and their ids (words,).

        The positions are padded with the first one to a multiple, such as of the rows that a matrix product likes.
        """
        flat = self.labels.flatten()
        positions = (flat != PAD).nonzero()[:, 0]
        return torch.cat((positions, positions[:1].expand(-len(positions) % multiple))), flat[positions]


class TokenizedCorpus(NamedTuple):
    """A text in piece ids, without marks."""

    sources: list[list[int]]
    targets: list[list[int]]

    def count_target_tokens(self, rows: Sequence[int]) -> int:
        """Target words to predict, EOS included."""
        return sum(len(self.targets[row]) + 1 for row in rows)


def tokenize(path: Path, vocab: Vocab, *, longest: int | None = None) -> TokenizedCorpus:
    """A corpus file in pieces, without the pairs that have an empty side or are longer than longest.

    Raises InputError when no pair is left.
    """
    coded = [(vocab.encode(pair.source), vocab.encode(pair.target)) for pair in bitext.read(path)]
    coded = [pair for pair in coded if all(0 < len(ids) <= (longest or len(ids)) for ids in pair)]
    if not coded:
        raise InputError(f"{path}: no pair is left; raise data.max_length in params.yaml or check the corpus.")
    return TokenizedCorpus([source for source, _ in coded], [target for _, target in coded])


def pad_left(sentences: Sequence[Sequence[int]]) -> Tensor:
    """(longest, count) ids; the encoder starts every sentence at its first word and ends it at the last step."""
    longest = max(map(len, sentences))
    return torch.tensor([[PAD] * (longest - len(ids)) + list(ids) for ids in sentences]).t().contiguous()


def pad_right(sentences: Sequence[Sequence[int]]) -> Tensor:
    longest = max(map(len, sentences))
    return torch.tensor([list(ids) + [PAD] * (longest - len(ids)) for ids in sentences]).t().contiguous()


def collate(text: TokenizedCorpus, rows: Sequence[int]) -> Batch:
    """The pairs of some rows as one batch."""
    targets = [text.targets[row] for row in rows]
    return Batch(
        rows=list(rows),
        source=pad_left([text.sources[row] for row in rows]),
        decoder_input=pad_right([[BOS, *ids] for ids in targets]),
        labels=pad_right([[*ids, EOS] for ids in targets]),
    )


def make_batches(text: TokenizedCorpus, size: int, generator: torch.Generator | None = None) -> list[list[int]]:
    """All rows in batches of size sentences, alike in source and then in target length.

    generator: deals equal lengths and orders the batches anew; None: a fixed order, longest last.
    """
    count = len(text.sources)
    lot = torch.arange(count) if generator is None else torch.randperm(count, generator=generator)
    rows = sorted(lot.tolist(), key=lambda row: (len(text.sources[row]), len(text.targets[row])))
    found = [rows[at : at + size] for at in range(0, count, size)]
    if generator is None:
        return found
    return [found[at] for at in torch.randperm(len(found), generator=generator).tolist()]


def shard(planned: list[list[int]], rank: int, size: int) -> Iterator[list[int]]:
    """One worker's rows of every batch: each size-th, so that the shares of a batch are alike in length."""
    for rows in planned:
        yield rows[rank::size]
