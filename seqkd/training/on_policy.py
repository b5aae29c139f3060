"""On-policy distillation's text: the student's own greedy translations of the sources (ImitKD, Lin et al. 2020)."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from seqkd.data import ragged
from seqkd.data.batches import TokenizedCorpus
from seqkd.data.nbest import Hypothesis
from seqkd.data.ragged import Integers, RaggedArray, RaggedWriter
from seqkd.models.interface import Network
from seqkd.training.data_parallel import DataParallelGroup

CHUNK_SIZE = 250  # sentences of one search
MAX_RATIO = 2  # pieces of a translation for each of the longest source; longer ones are cut

# `seqkd.decoding.beam_search.greedy`, handed down by the stage: training itself knows nothing of searches.
Search = Callable[[Network, Sequence[Sequence[int]]], list[Hypothesis]]


def empty_store(sources: RaggedArray) -> Tensor:
    """Return where the translations of these sources lie: (lines, 1 + the most pieces), the length of each first."""
    return torch.zeros(len(sources), 1 + MAX_RATIO * int(sources.lengths().max()), dtype=torch.int32)


@torch.no_grad()
def translate(network: Network, text: TokenizedCorpus, search: Search, group: DataParallelGroup, store: Tensor) -> None:
    """Fill the store with the network's greedy translations, short sources first; each process does a part."""
    rows, ranks = _by_length(text), group.ranks
    chunks = [slice(start, start + CHUNK_SIZE) for start in range(0, len(rows), CHUNK_SIZE)]
    for chunk in chunks[ranks.rank :: ranks.world_size][group.local_rank :: group.local_world_size]:
        found = search(network, [text.sources[row] for row in rows[chunk].tolist()])
        for place, best in enumerate(found, start=chunk.start):
            ids = torch.tensor(best.ids[: store.shape[1] - 1], dtype=torch.int32)
            store[place, 0] = len(ids)
            store[place, 1 : 1 + len(ids)] = ids
    # store[:0]: a rank may have no chunk
    group.gather(lambda rank: [store[:0], *(store[chunk] for chunk in chunks[rank :: ranks.world_size])])


def _by_length(text: TokenizedCorpus) -> Integers:
    """Return the rows of the text, those with short sources first."""
    return text.sources.lengths().argsort(kind="stable")


def read(text: TokenizedCorpus, store: Tensor) -> TokenizedCorpus:
    """Return the sources with the translations in the store."""
    lines, writer = store.numpy(), RaggedWriter(ragged.INT)
    for place in _by_length(text).argsort():
        writer.add(lines[place, 1 : 1 + lines[place, 0]].tolist())
    return TokenizedCorpus(text.sources, writer.finish())
