"""On-policy distillation's text: the student's own greedy translations of the sources (ImitKD, Lin et al. 2020)."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from seqkd.data import ragged
from seqkd.data.batches import TokenizedCorpus
from seqkd.data.nbest import Hypothesis
from seqkd.data.ragged import RaggedArray, RaggedWriter
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
    """Fill the store with the network's greedy translations, each process with its part; wait for all processes."""
    rows = text.sources.lengths().argsort(kind="stable")
    for start in range(group.rank * CHUNK_SIZE, len(rows), group.world_size * CHUNK_SIZE):
        chunk = rows[start : start + CHUNK_SIZE].tolist()
        for row, best in zip(chunk, search(network, [text.sources[row] for row in chunk]), strict=True):
            ids = torch.tensor(best.ids[: store.shape[1] - 1], dtype=torch.int32)
            store[row, 0] = len(ids)
            store[row, 1 : 1 + len(ids)] = ids
    group.barrier()


def read(text: TokenizedCorpus, store: Tensor) -> TokenizedCorpus:
    """Return the sources with the translations in the store."""
    lines, writer = store.numpy(), RaggedWriter(ragged.INT)
    for line in lines:
        writer.add(line[1 : 1 + line[0]].tolist())
    return TokenizedCorpus(text.sources, writer.finish())
