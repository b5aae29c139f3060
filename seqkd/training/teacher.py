"""The teacher's word distribution over a whole text: in full at the price of its output layer, or its likeliest words
at the price of looking them up."""

import shutil
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from seqkd.data import batches
from seqkd.data.batches import Batch, TokenizedCorpus
from seqkd.data.vocab import PAD
from seqkd.models import checkpoint
from seqkd.models.losses import TopK
from seqkd.models.lstm import LSTMNetwork
from seqkd.ops.matmul import matmul_nt
from seqkd.training.data_parallel import DataParallelGroup
from seqkd.utils import atomic

MAX_STORE_BYTES = 4 << 30  # bytes of attentional vectors kept in memory; beyond, the teacher reads each batch anew
BATCH_SIZE = 64  # sentences the teacher reads in one batch
LINES_PER_FILE = 4096  # lines whose shortlists stand in one file, whoever writes it
MAX_CACHED = 8  # shortlists of as many texts and teachers stay on the disk


class FullTargets:
    """q(t_j | s, y_<j) for every word of a text, in full.

    The distribution is a function of the teacher's attentional vector, H numbers a word instead of V. These are
    computed once, kept, and multiplied by the output layer when a batch needs them: exact, and nearly free.
    """

    def __init__(self, network: LSTMNetwork, text: TokenizedCorpus, team: DataParallelGroup) -> None:
        self.network, self.text = network, text
        ends = torch.tensor([0] + [len(target) + 1 for target in text.targets]).cumsum(0)
        self.starts = ends[:-1]
        self.store: Tensor | None = None
        size = int(ends[-1]) * network.shape.hidden * 4
        if size <= MAX_STORE_BYTES:
            store = torch.empty(int(ends[-1]), network.shape.hidden, device=network.output.device)
            self.store = team.shared(store)

    @torch.no_grad()
    def precompute(self, team: DataParallelGroup) -> None:
        """Fills this process's share of the store."""
        if self.store is None:
            return
        planned = batches.make_batches(self.text, BATCH_SIZE)
        for rows in planned[team.rank :: team.size]:
            batch = batches.collate(self.text, rows).to(self.store.device)
            self.store[_flat_positions(batch, self.starts)] = self.network(batch.source, batch.decoder_input)[
                batch.labels != PAD
            ]
        team.barrier()

    @torch.no_grad()
    def targets(self, batch: Batch) -> Tensor:
        """(words, V) probabilities, in the order of batch.expected[batch.expected != PAD]."""
        if self.store is None:
            vectors = self.network(batch.source, batch.decoder_input)[batch.labels != PAD]
        else:
            vectors = self.store[_flat_positions(batch, self.starts)]
        return matmul_nt(vectors, self.network.output, self.network.output_bias, keep_fp32=True).softmax(-1)


class TopKCache(NamedTuple):
    """How much of the teacher's distribution is kept, and where."""

    top_k: int  # words
    folder: Path  # of this teacher, text and top_k alone


class TopKTargets:
    """The teacher's top_k likeliest words for every word of a text, with the probability that is left.

    Kept in files of PART lines, 2 (2 top_k + 1) bytes a word (4 for an id beyond 32 768 pieces), which every training
    on this text with this teacher shares: they are mapped, not read, and a part that is there is never made again.
    """

    def __init__(self, network: LSTMNetwork, text: TokenizedCorpus, kept: TopKCache) -> None:
        self.network, self.text, self.folder = network, text, kept.folder
        self.top_k = min(kept.top_k, network.shape.vocab - 1)  # one word at least has no place on the list
        lengths = torch.tensor([len(target) + 1 for target in text.targets])
        before = lengths.cumsum(0) - lengths
        self.starts = (
            before - before[torch.arange(len(lengths)) // LINES_PER_FILE * LINES_PER_FILE]
        )  # within a row's part
        self.parts: list[dict[str, Tensor]] = []

    @torch.no_grad()
    def precompute(self, team: DataParallelGroup) -> None:
        """Makes this process's share of the parts that are missing, and opens them all."""
        paths = [self.folder / f"{at:08}" for at in range(0, len(self.text.targets), LINES_PER_FILE)]
        missing = [path for path in paths if not path.exists()]
        team.barrier()
        for path in missing[team.rank :: team.size]:
            with atomic.atomic_write(path) as partial:
                checkpoint.write_tensors(partial, self._part(int(path.name)))
        team.barrier()
        self.parts = [checkpoint.read_tensors(path) for path in paths]
        if team.rank == 0:
            self.folder.touch()
            _evict(self.folder.parent)

    def _part(self, first: int) -> dict[str, Tensor]:
        text = TokenizedCorpus(
            self.text.sources[first : first + LINES_PER_FILE], self.text.targets[first : first + LINES_PER_FILE]
        )
        words = text.count_target_tokens(range(len(text.targets)))
        vocab = self.network.shape.vocab
        ids = torch.empty(words, self.top_k, dtype=torch.int16 if vocab <= 1 << 15 else torch.int32)
        shares = torch.empty(words, self.top_k + 1, dtype=torch.float16)
        for rows in batches.make_batches(text, BATCH_SIZE):
            batch = batches.collate(text, rows).to(self.network.output.device)
            vectors = self.network(batch.source, batch.decoder_input)[batch.labels != PAD]
            logits = matmul_nt(vectors, self.network.output, self.network.output_bias, keep_fp32=True)
            values, listed = logits.topk(self.top_k, -1)
            values = (values - logits.logsumexp(-1, keepdim=True)).exp()
            places = _flat_positions(batch, self.starts[first : first + LINES_PER_FILE]).cpu()
            ids[places] = listed.to("cpu", ids.dtype)
            rest = (1.0 - values.sum(-1, keepdim=True)).clamp(min=0.0)
            shares[places] = torch.cat((values, rest), 1).to("cpu", shares.dtype)
        return {"ids": ids, "shares": shares}

    def targets(self, batch: Batch) -> TopK:
        """The words in the order of batch.expected[batch.expected != PAD]; shares are float32 and sum to 1."""
        places = _flat_positions(batch, self.starts).cpu()
        words = (batch.labels != PAD).cpu()
        parts = (torch.tensor(batch.rows) // LINES_PER_FILE).expand_as(words)[words]
        ids = torch.empty(len(places), self.top_k, dtype=self.parts[0]["ids"].dtype)
        shares = torch.empty(len(places), self.top_k + 1)
        for part in set(parts.tolist()):
            here = parts == part
            stored = self.parts[part]
            ids[here], shares[here] = stored["ids"][places[here]], stored["shares"][places[here]].float()
        shares /= shares.sum(-1, keepdim=True)  # half precision rounds each
        return TopK(ids.to(batch.labels.device), shares.to(batch.labels.device))


TeacherTargets = FullTargets | TopKTargets


def make_targets(
    network: LSTMNetwork, text: TokenizedCorpus, team: DataParallelGroup, kept: TopKCache | None
) -> TeacherTargets:
    """The teacher's distribution in full, or as much of it as is kept."""
    return FullTargets(network, text, team) if kept is None else TopKTargets(network, text, kept)


def _flat_positions(batch: Batch, starts: Tensor) -> Tensor:
    """(words,), where the batch's words stand when row r's begin at starts[r]."""
    time = torch.arange(batch.labels.shape[0])[:, None]
    places = (time + starts[batch.rows][None]).to(batch.labels.device)
    return places[batch.labels != PAD]


def _evict(folder: Path) -> None:
    """Removes the shortlists that were not used for longest."""
    found = sorted(folder.iterdir(), key=lambda path: path.stat().st_mtime)
    for path in found[:-MAX_CACHED]:
        shutil.rmtree(path, ignore_errors=True)
