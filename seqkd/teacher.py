"""The teacher's word distribution over a whole text, at the price of its output layer."""

import torch
from torch import Tensor

from seqkd import batches
from seqkd.batches import Batch, Text
from seqkd.model import Network
from seqkd.products import product
from seqkd.team import Team
from seqkd.vocab import PAD

LARGEST_STORE = 4 << 30  # bytes of attentional vectors kept in memory; beyond, the teacher reads each batch anew


class Teacher:
    """q(t_j | s, y_<j) for every word of a text, in full.

    The distribution is a function of the teacher's attentional vector, H numbers a word instead of V. These are
    computed once, kept, and multiplied by the output layer when a batch needs them: exact, and nearly free.
    """

    def __init__(self, network: Network, text: Text, team: Team) -> None:
        self.network, self.text = network, text
        ends = torch.tensor([0] + [len(target) + 1 for target in text.targets]).cumsum(0)
        self.starts = ends[:-1]
        self.store: Tensor | None = None
        size = int(ends[-1]) * network.shape.hidden * 4
        if size <= LARGEST_STORE:
            store = torch.empty(int(ends[-1]), network.shape.hidden, device=network.output.device)
            self.store = team.shared(store)

    @torch.no_grad()
    def read(self, team: Team) -> None:
        """Fills this process's share of the store."""
        if self.store is None:
            return
        planned = batches.plan(self.text, 64)
        for rows in planned[team.rank :: team.size]:
            batch = batches.make(self.text, rows).to(self.store.device)
            words = batch.expected != PAD
            self.store[self._places(batch)] = self.network(batch.source, batch.entered)[words]
        team.wait()

    @torch.no_grad()
    def probabilities(self, batch: Batch) -> Tensor:
        """(words, V), in the order of batch.expected[batch.expected != PAD]."""
        if self.store is None:
            vectors = self.network(batch.source, batch.entered)[batch.expected != PAD]
        else:
            vectors = self.store[self._places(batch)]
        return product(vectors, self.network.output, self.network.output_bias).softmax(-1)

    def _places(self, batch: Batch) -> Tensor:
        """(words,), where the store holds the batch's words."""
        time = torch.arange(batch.expected.shape[0])[:, None]
        places = (time + self.starts[batch.rows][None]).to(batch.expected.device)
        return places[batch.expected != PAD]
