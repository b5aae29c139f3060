"""Tokenized corpora, batches of sentences of similar length, and one batch as tensors."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, Self

import torch
from torch import Tensor
from torch.nn import functional as F

from seqkd.data import bitext
from seqkd.data.bitext import Pair
from seqkd.data.vocab import BOS, EOS, PAD, Vocab
from seqkd.utils.errors import InputError

MAX_LINE_PIECES = 1000  # of a line that shares a batch, and of a source in a search; real sentences have up to 300
MAX_BATCH_PIECES = 1 << 14  # of a batch on either side, padding included


class Batch(NamedTuple):
    """B sentence pairs; S and T are the longest source and target, the target with BOS or EOS."""

    rows: list[int]  # of the corpus
    source: Tensor  # (S, B) ids, padded on the left
    decoder_input: Tensor  # (T, B) ids, BOS first, padded on the right
    labels: Tensor  # (T, B) ids, EOS last, padded on the right

    def to(self, device: torch.device) -> Self:
        return self._replace(
            source=self.source.to(device), decoder_input=self.decoder_input.to(device), labels=self.labels.to(device)
        )

    def padded(self, multiple: int) -> Self:
        """Return the same batch, its source and target padded to a multiple of so many positions."""
        source = F.pad(self.source, (0, 0, -len(self.source) % multiple, 0), value=PAD)
        targets = (self.decoder_input, self.labels)
        padded = (F.pad(target, (0, 0, 0, -len(target) % multiple), value=PAD) for target in targets)
        return type(self)(self.rows, source, *padded)

    def target_positions(self, multiple: int = 1) -> tuple[Tensor, Tensor]:
        """Return where in labels.flatten() the words to predict stand, and their ids (words,).

        The positions are padded with the first one to a multiple, such as of the rows that a matrix product likes.
        """
        flat = self.labels.flatten()
        positions = (flat != PAD).nonzero()[:, 0]
        return torch.cat((positions, positions[:1].expand(-len(positions) % multiple))), flat[positions]


class TokenizedCorpus(NamedTuple):
    """A corpus in piece ids, without BOS and EOS."""

    sources: list[list[int]]
    targets: list[list[int]]

    def unused_in_targets(self, vocab_size: int) -> list[int]:
        """Return the pieces that no target has; EOS is in all."""
        used = {EOS}.union(*self.targets)
        return [piece for piece in range(vocab_size) if piece not in used]

    def count_target_tokens(self, rows: Sequence[int]) -> int:
        """Return the number of target tokens of these rows, EOS included."""
        return sum(len(self.targets[row]) + 1 for row in rows)

    def longest(self, rows: Iterable[int]) -> int:
        """Return the length of the longest side of these rows; a target's with BOS or EOS."""
        return max(max(len(self.sources[row]), len(self.targets[row]) + 1) for row in rows)


def tokenize(path: Path, vocab: Vocab, *, max_length: int | None = None) -> TokenizedCorpus:
    """Read a corpus file in pieces, without the pairs that have an empty side or one of more than max_length pieces.

    Raise InputError where no pair is left.
    """
    pairs = list(tokenized_pairs(path, vocab, max_length=max_length))
    if not pairs:
        raise InputError(f"{path}: no pair is left; raise data.max_length in params.yaml or check the corpus.")
    return TokenizedCorpus([source for _, source, _ in pairs], [target for *_, target in pairs])


def tokenized_pairs(
    path: Path, vocab: Vocab, *, max_length: int | None = None
) -> Iterator[tuple[Pair, list[int], list[int]]]:
    """Yield the pairs of a corpus file that `tokenize` keeps, each with the pieces of its source and target."""
    for pair in bitext.stream(path, repeats=True):
        sides = vocab.encode(pair.source), vocab.encode(pair.target, pair.source)
        if all(0 < len(ids) <= (max_length or len(ids)) for ids in sides):
            yield pair, *sides


def tokenize_sources(path: Path, vocab: Vocab, *, max_length: int) -> TokenizedCorpus:
    """Read the sources of a corpus file in pieces, without those of more than max_length, as their own targets.

    Raise InputError where no source is left.
    """
    encoded = (vocab.encode(pair.source) for pair in bitext.stream(path, repeats=True))
    sources = [ids for ids in encoded if 0 < len(ids) <= max_length]
    if not sources:
        raise InputError(f"{path}: no source is left; raise data.max_length in params.yaml or check the corpus.")
    return TokenizedCorpus(sources, sources)


def pad_left(sentences: Sequence[Sequence[int]]) -> Tensor:
    """Return (longest, count) ids. The encoder ends every sentence at the last position."""
    longest = max(map(len, sentences))
    return torch.tensor([[PAD] * (longest - len(ids)) + list(ids) for ids in sentences]).t().contiguous()


def pad_right(sentences: Sequence[Sequence[int]]) -> Tensor:
    """Return (longest, count) ids. The decoder starts every sentence at the first position."""
    longest = max(map(len, sentences))
    return torch.tensor([list(ids) + [PAD] * (longest - len(ids)) for ids in sentences]).t().contiguous()


def collate(corpus: TokenizedCorpus, rows: Sequence[int]) -> Batch:
    """Return the pairs of some rows of the corpus as one batch."""
    targets = [corpus.targets[row] for row in rows]
    return Batch(
        rows=list(rows),
        source=pad_left([corpus.sources[row] for row in rows]),
        decoder_input=pad_right([[BOS, *ids] for ids in targets]),
        labels=pad_right([[*ids, EOS] for ids in targets]),
    )


def make_batches(corpus: TokenizedCorpus, size: int, generator: torch.Generator | None = None) -> list[list[int]]:
    """Return all rows in batches of `size` sentences of similar source length, then of similar target length.

    A batch has fewer sentences where it would exceed MAX_BATCH_PIECES. A pair with a side of more than MAX_LINE_PIECES,
    BOS or EOS included, comes alone.
    generator: shuffles the rows of equal lengths and then the batches; None: a fixed order, the longest last.
    """
    count = len(corpus.sources)
    order = torch.arange(count) if generator is None else torch.randperm(count, generator=generator)
    rows = sorted(order.tolist(), key=lambda row: (len(corpus.sources[row]), len(corpus.targets[row])))
    batches = [part for start in range(0, count, size) for part in _split(corpus, rows[start : start + size])]
    if generator is None:
        return batches
    return [batches[index] for index in torch.randperm(len(batches), generator=generator).tolist()]


def _split(corpus: TokenizedCorpus, rows: Sequence[int]) -> Iterator[list[int]]:
    """Yield the rows of a batch in as many parts as the bounds in pieces demand, most often one."""
    part: list[int] = []
    longest = 0
    for row in rows:
        length = corpus.longest([row])
        longest = max(longest, length)
        if part and (longest > MAX_LINE_PIECES or (len(part) + 1) * longest > MAX_BATCH_PIECES):
            yield part
            part, longest = [], length
        part.append(row)
    yield part
