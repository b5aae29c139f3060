"""Tokenized corpora, batches of sentences of similar length, and one batch as tensors."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self, overload

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from seqkd.data import bitext, ragged
from seqkd.data.bitext import Pair
from seqkd.data.ragged import RaggedArray, RaggedWriter
from seqkd.data.vocab import BOS, EOS, PAD, Vocab
from seqkd.utils.errors import InputError

MAX_LINE_PIECES = 1000  # of a line that shares a batch, and of a source in a search; real sentences have up to 300
MAX_BATCH_PIECES = 1 << 14  # of a batch on either side, padding included
BLOCK = 1 << 16  # rows whose lengths are looked up together


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


class TokenizedCorpus:
    """A corpus in piece ids, without BOS and EOS."""

    def __init__(
        self, sources: RaggedArray | Iterable[Sequence[int]], targets: RaggedArray | Iterable[Sequence[int]]
    ) -> None:
        self.sources, self.targets = (
            side if isinstance(side, RaggedArray) else RaggedArray.of(side) for side in (sources, targets)
        )

    def __len__(self) -> int:
        return len(self.targets)

    def part(self, lines: slice) -> "TokenizedCorpus":
        """Return neighbouring pairs, which share the memory."""
        return TokenizedCorpus(self.sources[lines], self.targets[lines])

    @property
    def target_tokens(self) -> int:
        """The number of all target tokens, EOS included."""
        return len(self.targets.flat) + len(self.targets)

    @property
    def target_starts(self) -> Tensor:
        """Where each target's tokens, EOS included, begin among those of all: (pairs,)."""
        starts = np.arange(len(self))
        starts += self.targets.ends[:-1]
        starts -= self.targets.ends[0]
        return torch.from_numpy(starts)

    def unused_in_targets(self, vocab_size: int) -> list[int]:
        """Return the pieces that no target has; EOS is in all."""
        unused = np.ones(vocab_size, np.bool_)
        unused[self.targets.flat] = False
        unused[EOS] = False
        return np.flatnonzero(unused).tolist()

    def count_target_tokens(self, rows: Sequence[int]) -> int:
        """Return the number of target tokens of these rows, EOS included."""
        return int(self.targets.lengths(rows).sum()) + len(rows)

    def longest(self, rows: Sequence[int] | NDArray[Any]) -> int:
        """Return the length of the longest side of these rows; a target's with BOS or EOS."""
        return int(max(self.sources.lengths(rows).max(), 1 + self.targets.lengths(rows).max()))


def tokenize(path: Path, vocab: Vocab, *, max_length: int | None = None) -> TokenizedCorpus:
    """Read a corpus file in pieces, without the pairs that have an empty side or one of more than max_length pieces.

    The pieces lie in files that are mapped into memory. Raise InputError where no pair is left.
    """
    sources, targets = _writer(vocab), _writer(vocab)
    for _, source, target in tokenized_pairs(path, vocab, max_length=max_length):
        sources.add(source)
        targets.add(target)
    text = TokenizedCorpus(sources.finish(), targets.finish())
    if not len(text):
        raise InputError(f"{path}: no pair is left; raise data.max_length in params.yaml or check the corpus.")
    return text


def _writer(vocab: Vocab) -> RaggedWriter:
    return RaggedWriter(ragged.SHORT if vocab.size <= 1 << 16 else ragged.INT)


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
    writer = _writer(vocab)
    for pair in bitext.stream(path, repeats=True):
        ids = vocab.encode(pair.source)
        if 0 < len(ids) <= max_length:
            writer.add(ids)
    sources = writer.finish()
    if not len(sources):
        raise InputError(f"{path}: no source is left; raise data.max_length in params.yaml or check the corpus.")
    return TokenizedCorpus(sources, sources)


def pad_left(sentences: Sequence[Sequence[int] | NDArray[Any]]) -> Tensor:
    """Return (longest, count) ids. The encoder ends every sentence at the last position."""
    longest = max(map(len, sentences))
    padded = np.full((len(sentences), longest), PAD)
    for row, ids in zip(padded, sentences, strict=True):
        row[longest - len(ids) :] = ids
    return torch.from_numpy(padded).t().contiguous()


def collate(corpus: TokenizedCorpus, rows: Sequence[int]) -> Batch:
    """Return the pairs of some rows of the corpus as one batch. The decoder starts at the first position."""
    lengths = corpus.targets.lengths(rows)
    labels = np.full((len(rows), 1 + lengths.max()), PAD)
    for padded, row in zip(labels, rows, strict=True):
        ids = corpus.targets.row(row)
        padded[: len(ids)] = ids
    decoder_input = np.full_like(labels, BOS)
    decoder_input[:, 1:] = labels[:, :-1]
    labels[np.arange(len(rows)), lengths] = EOS
    targets = (torch.from_numpy(padded).t().contiguous() for padded in (decoder_input, labels))
    return Batch(list(rows), pad_left([corpus.sources.row(row) for row in rows]), *targets)


class Batches(Sequence[list[int]]):
    """The rows of each batch, 4 bytes a row."""

    def __init__(self, rows: NDArray[np.int32], ends: ragged.Integers, order: ragged.Integers) -> None:
        self._rows, self._ends = rows, ends  # rows: of all batches; ends: of each, 0 first
        self._order = order  # of the batches

    def __len__(self) -> int:
        return len(self._order)

    @overload
    def __getitem__(self, index: int) -> list[int]: ...

    @overload
    def __getitem__(self, index: slice) -> "Batches": ...

    def __getitem__(self, index: int | slice) -> "list[int] | Batches":
        if isinstance(index, slice):
            return Batches(self._rows, self._ends, self._order[index])
        batch = self._order[index]
        return self._rows[self._ends[batch] : self._ends[batch + 1]].tolist()  # type: ignore[no-any-return]


def make_batches(corpus: TokenizedCorpus, size: int, generator: torch.Generator | None = None) -> Batches:
    """Return all rows in batches of `size` sentences of similar source length, then of similar target length.

    A batch has fewer sentences where it would exceed MAX_BATCH_PIECES. A pair with a side of more than MAX_LINE_PIECES,
    BOS or EOS included, comes alone.
    generator: shuffles the rows of equal lengths and then the batches; None: a fixed order, the longest last.
    """
    rows = _by_length(corpus, generator)
    ends = [0]
    for start in range(0, len(rows), size):
        ends += _split(corpus, rows[start : start + size], start)
    count = len(ends) - 1
    order = torch.arange(count) if generator is None else torch.randperm(count, generator=generator)
    return Batches(rows, np.array(ends), order.numpy())


def _by_length(corpus: TokenizedCorpus, generator: torch.Generator | None) -> NDArray[np.int32]:
    """Return all rows by the length of the source, then of the target; rows of equal lengths in random order.

    Where both lengths and the place in the random order fit in one key of 8 bytes, as they do but for lines of
    thousands of pieces, it takes 20 bytes a pair.
    """
    count = len(corpus)
    if generator is None:
        shuffled = np.arange(count, dtype=np.int32)
    else:
        shuffled = torch.randperm(count, generator=generator, dtype=torch.int32).numpy()
    sources, targets = np.empty(count, np.int32), np.empty(count, np.int32)
    for start in range(0, count, BLOCK):
        block = slice(start, start + BLOCK)
        sources[block] = corpus.sources.lengths(shuffled[block])
        targets[block] = corpus.targets.lengths(shuffled[block])
    most = int(targets.max()) + 1
    if (int(sources.max()) + 1) * most * count >= 1 << 63:
        return shuffled[np.lexsort((targets, sources))]
    keys = sources.astype(np.int64)
    del sources
    keys *= most
    keys += targets
    del targets
    keys *= count
    keys += np.arange(count, dtype=np.int32)  # all keys differ, so that any way of sorting is stable
    keys.sort()
    keys %= count
    return shuffled[keys]


def _split(corpus: TokenizedCorpus, rows: NDArray[np.int32], start: int) -> list[int]:
    """Return where the parts of a batch end, as many as the bounds in pieces demand, most often one.

    start: where the batch begins.
    """
    lengths = np.maximum(corpus.sources.lengths(rows), corpus.targets.lengths(rows) + 1)
    longest = int(lengths.max())
    if longest <= MAX_LINE_PIECES and longest * len(rows) <= MAX_BATCH_PIECES:
        return [start + len(rows)]
    ends, first, longest = list[int](), 0, 0
    for row, length in enumerate(lengths.tolist()):
        longest = max(longest, length)
        if row > first and (longest > MAX_LINE_PIECES or (row - first + 1) * longest > MAX_BATCH_PIECES):
            ends.append(start + row)
            first, longest = row, length
    return [*ends, start + len(rows)]
