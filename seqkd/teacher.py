"""The teacher's word distribution over a whole text: in full at the price of its output layer, or its likeliest words
at the price of looking them up."""

import shutil
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from seqkd import batches, checkpoint, whole
from seqkd.batches import Batch, Text
from seqkd.losses import Shortlist
from seqkd.model import Network
from seqkd.products import product
from seqkd.team import Team
from seqkd.vocab import PAD

LARGEST_STORE = 4 << 30  # bytes of attentional vectors kept in memory; beyond, the teacher reads each batch anew
AT_ONCE = 64  # sentences the teacher reads in one batch
PART = 4096  # lines whose shortlists stand in one file, whoever writes it
FOLDERS = 8  # shortlists of as many texts and teachers stay on the disk


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
        planned = batches.plan(self.text, AT_ONCE)
        for rows in planned[team.rank :: team.size]:
            batch = batches.make(self.text, rows).to(self.store.device)
            self.store[_places(batch, self.starts)] = self.network(batch.source, batch.entered)[batch.expected != PAD]
        team.wait()

    @torch.no_grad()
    def targets(self, batch: Batch) -> Tensor:
        """(words, V) probabilities, in the order of batch.expected[batch.expected != PAD]."""
        if self.store is None:
            vectors = self.network(batch.source, batch.entered)[batch.expected != PAD]
        else:
            vectors = self.store[_places(batch, self.starts)]
        return product(vectors, self.network.output, self.network.output_bias, whole=True).softmax(-1)


class Kept(NamedTuple):
    """How much of the teacher's distribution is kept, and where."""

    top_k: int  # words
    folder: Path  # of this teacher, text and top_k alone


class Shortlists:
    """The teacher's top_k likeliest words for every word of a text, with the probability that is left.

    Kept in files of PART lines, 2 (2 top_k + 1) bytes a word (4 for an id beyond 32 768 pieces), which every training
    on this text with this teacher shares: they are mapped, not read, and a part that is there is never made again.
    """

    def __init__(self, network: Network, text: Text, kept: Kept) -> None:
        self.network, self.text, self.folder = network, text, kept.folder
        self.top_k = min(kept.top_k, network.shape.vocab - 1)  # one word at least has no place on the list
        lengths = torch.tensor([len(target) + 1 for target in text.targets])
        before = lengths.cumsum(0) - lengths
        self.starts = before - before[torch.arange(len(lengths)) // PART * PART]  # within a row's part
        self.parts: list[dict[str, Tensor]] = []

    @torch.no_grad()
    def read(self, team: Team) -> None:
        """Makes this process's share of the parts that are missing, and opens them all."""
        paths = [self.folder / f"{at:08}" for at in range(0, len(self.text.targets), PART)]
        missing = [path for path in paths if not path.exists()]
        team.wait()
        for path in missing[team.rank :: team.size]:
            with whole.replacing(path) as partial:
                checkpoint.write_tensors(partial, self._part(int(path.name)))
        team.wait()
        self.parts = [checkpoint.read_tensors(path) for path in paths]
        if team.rank == 0:
            self.folder.touch()
            _forget(self.folder.parent)

    def _part(self, first: int) -> dict[str, Tensor]:
        text = Text(self.text.sources[first : first + PART], self.text.targets[first : first + PART])
        words = text.tokens(range(len(text.targets)))
        vocab = self.network.shape.vocab
        ids = torch.empty(words, self.top_k, dtype=torch.int16 if vocab <= 1 << 15 else torch.int32)
        shares = torch.empty(words, self.top_k + 1, dtype=torch.float16)
        for rows in batches.plan(text, AT_ONCE):
            batch = batches.make(text, rows).to(self.network.output.device)
            vectors = self.network(batch.source, batch.entered)[batch.expected != PAD]
            logits = product(vectors, self.network.output, self.network.output_bias, whole=True)
            values, listed = logits.topk(self.top_k, -1)
            values = (values - logits.logsumexp(-1, keepdim=True)).exp()
            places = _places(batch, self.starts[first : first + PART]).cpu()
            ids[places] = listed.to("cpu", ids.dtype)
            rest = (1.0 - values.sum(-1, keepdim=True)).clamp(min=0.0)
            shares[places] = torch.cat((values, rest), 1).to("cpu", shares.dtype)
        return {"ids": ids, "shares": shares}

    def targets(self, batch: Batch) -> Shortlist:
        """The words in the order of batch.expected[batch.expected != PAD]; shares are float32 and sum to 1."""
        places = _places(batch, self.starts).cpu()
        words = (batch.expected != PAD).cpu()
        parts = (torch.tensor(batch.rows) // PART).expand_as(words)[words]
        ids = torch.empty(len(places), self.top_k, dtype=self.parts[0]["ids"].dtype)
        shares = torch.empty(len(places), self.top_k + 1)
        for part in set(parts.tolist()):
            here = parts == part
            stored = self.parts[part]
            ids[here], shares[here] = stored["ids"][places[here]], stored["shares"][places[here]].float()
        shares /= shares.sum(-1, keepdim=True)  # half precision rounds each
        return Shortlist(ids.to(batch.expected.device), shares.to(batch.expected.device))


Distribution = Teacher | Shortlists


def distribution(network: Network, text: Text, team: Team, kept: Kept | None) -> Distribution:
    """The teacher's distribution in full, or as much of it as is kept."""
    return Teacher(network, text, team) if kept is None else Shortlists(network, text, kept)


def _places(batch: Batch, starts: Tensor) -> Tensor:
    """(words,), where the batch's words stand when row r's begin at starts[r]."""
    time = torch.arange(batch.expected.shape[0])[:, None]
    places = (time + starts[batch.rows][None]).to(batch.expected.device)
    return places[batch.expected != PAD]


def _forget(folder: Path) -> None:
    """Removes the shortlists that were not used for longest."""
    found = sorted(folder.iterdir(), key=lambda path: path.stat().st_mtime)
    for path in found[:-FOLDERS]:
        shutil.rmtree(path, ignore_errors=True)
