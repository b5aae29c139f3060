"""On-policy distillation's text: the student's own greedy translations of the sources (ImitKD, Lin et al. 2020)."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from seqkd.data.batches import TokenizedCorpus
from seqkd.data.nbest import Hypothesis
from seqkd.models.interface import Network
from seqkd.training.data_parallel import DataParallelGroup

CHUNK_SIZE = 250  # sentences of one search
MAX_RATIO = 2  # pieces of a translation for each of the longest source; longer ones are cut

# `seqkd.decoding.beam_search.greedy`, handed down by the stage: training itself knows nothing of searches.
Search = Callable[[Network, Sequence[Sequence[int]]], list[Hypothesis]]


def empty_store(sources: Sequence[Sequence[int]]) -> Tensor:
    """Return where the translations of these sources lie: (lines, 1 + the most pieces), the length of each first."""
    return torch.zeros(len(sources), 1 + MAX_RATIO * max(map(len, sources)), dtype=torch.int32)


@torch.no_grad()
def translate(network: Network, text: TokenizedCorpus, search: Search, group: DataParallelGroup, store: Tensor) -> None:
    """Fill the store with the network's greedy translations, in the order of `_by_length`; each process does a part."""
    rows = _by_length(text)
    chunks = [slice(start, start + CHUNK_SIZE) for start in range(0, len(rows), CHUNK_SIZE)]
    ranks = group.ranks
    for chunk in chunks[ranks.rank :: ranks.world_size][group.local_rank :: group.local_world_size]:
        found = search(network, [text.sources[row] for row in rows[chunk]])
        for place, best in enumerate(found, start=chunk.start):
            ids = torch.tensor(best.ids[: store.shape[1] - 1], dtype=torch.int32)
            store[place, 0] = len(ids)
            store[place, 1 : 1 + len(ids)] = ids
    group.gather(lambda rank: [store[:0], *(store[chunk] for chunk in chunks[rank :: ranks.world_size])])


def _by_length(text: TokenizedCorpus) -> list[int]:
    """Return the rows of the text, those with short sources first."""
    return sorted(range(len(text.sources)), key=lambda row: (len(text.sources[row]), row))


def read(text: TokenizedCorpus, store: Tensor) -> TokenizedCorpus:
    """Return the sources with the translations in the store."""
    lines: list[list[Any]] = store.tolist()
    found = {row: line[1 : 1 + line[0]] for row, line in zip(_by_length(text), lines, strict=True)}
    return TokenizedCorpus(text.sources, [found[row] for row in range(len(text.sources))])
