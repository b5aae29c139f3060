"""The teacher's word distribution over a text, the targets of word-level KD (Kim & Rush 2016, section 3.1).

FullTargets: the full distribution, at the price of the teacher's output layer for every batch.
TopKTargets: its top-k words and the probability of the rest, at the price of looking them up.
"""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from seqkd.data import batches
from seqkd.data.batches import Batch, TokenizedCorpus
from seqkd.data.vocab import PAD
from seqkd.models import checkpoint
from seqkd.models.interface import Network
from seqkd.models.losses import TopK
from seqkd.training.data_parallel import DataParallelGroup
from seqkd.utils import atomic

MAX_STORE_BYTES = 4 << 30  # of stored attentional vectors; of a larger text the teacher reads each batch anew
BATCH_SIZE = 64  # sentences that the teacher reads at once
LINES_PER_FILE = 4096  # lines of the text whose top-k targets are in one file
MAX_CACHED = 8  # folders of top-k targets, one for each pair of text and teacher, that stay on the disk


class FullTargets:
    """The probabilities q(t_j | s, y_<j) of the whole vocabulary, for every target token of a text.

    They are a function of the teacher's attentional vector, H numbers per token instead of V (of an ensemble, M x H).
    Those vectors are computed once and stored; a batch multiplies them by the output layer, which is exact and cheap.
    """

    def __init__(
        self, network: Network, text: TokenizedCorpus, group: DataParallelGroup, *, changing: bool = False
    ) -> None:
        self.network, self.text = network, text
        self.starts, tokens = text.target_starts, text.target_tokens  # starts: of each row's tokens in the store
        self.store: Tensor | None = None  # (tokens, H)
        if not changing and tokens * network.vector_size * 4 <= MAX_STORE_BYTES:
            self.store = group.shared(torch.empty(tokens, network.vector_size, device=network.device))

    @torch.no_grad()
    def precompute(self, group: DataParallelGroup) -> None:
        """Compute this process's part of the store, and wait for the other processes."""
        if self.store is None:
            return
        planned = batches.make_batches(self.text, BATCH_SIZE)
        for rows in planned[group.local_rank :: group.local_world_size]:
            batch = batches.collate(self.text, rows).to(self.store.device)
            self.store[_token_indices(batch, self.starts)] = _vectors(self.network, batch)
        group.barrier()

    @torch.no_grad()
    def targets(self, batch: Batch) -> Tensor:
        """Return probabilities, (tokens, V), in the order of batch.labels[batch.labels != PAD]."""
        if self.store is None:
            vectors = _vectors(self.network, batch)
        else:
            vectors = self.store[_token_indices(batch, self.starts)]
        return self.network.probabilities(vectors)


class TopKCache(NamedTuple):
    """How many words of the teacher's distribution to keep, and the folder that keeps them."""

    top_k: int
    folder: Path  # of this teacher, text and top_k alone


class TopKTargets:
    """The teacher's top_k likeliest words for every target token of a text, and the probability of the rest.

    They are stored in files of LINES_PER_FILE lines, 2 (2 top_k + 1) bytes per token (with more than 32,768 pieces 2
    more for each word), which are memory-mapped. All trainings on this text with this teacher share them: a file that
    exists is not computed again.
    """

    def __init__(self, network: Network | None, text: TokenizedCorpus, cache: TopKCache) -> None:
        self.network, self.text, self.cache = network, text, cache
        # TopK keeps at least one word out of the list
        self.top_k = cache.top_k if network is None else min(cache.top_k, network.shape.vocab - 1)
        self.starts = text.target_starts  # of each row's tokens in its file
        for of_file in torch.split(self.starts, LINES_PER_FILE):
            of_file.sub_(int(of_file[0]))
        self.files: list[dict[str, Tensor]] = []

    @torch.no_grad()
    def precompute(self, group: DataParallelGroup) -> None:
        """Compute this process's part of the files that are missing, wait for the others, and open all files."""
        paths = [file_path(self.cache, first) for first in range(0, len(self.text), LINES_PER_FILE)]
        missing = [path for path in paths if not path.exists()]
        group.barrier()
        for path in missing[group.local_rank :: group.local_world_size]:
            write_file(path, self.compute_file(int(path.name)))
        group.barrier()
        self.files = [checkpoint.read_tensors(path) for path in paths]
        if group.local_rank == 0:
            self.cache.folder.touch()
            _evict(self.cache.folder.parent)

    @torch.no_grad()
    def compute_file(self, first: int) -> dict[str, Tensor]:
        """Return the targets of LINES_PER_FILE lines from row first on: ids (tokens, k), probs (tokens, k + 1)."""
        assert self.network is not None, "an external teacher's files are written before the training"
        lines = slice(first, first + LINES_PER_FILE)
        text = self.text.part(lines)
        tokens, vocab = text.target_tokens, self.network.shape.vocab
        ids = torch.empty(tokens, self.top_k, dtype=torch.int16 if vocab <= 1 << 15 else torch.int32)
        probs = torch.empty(tokens, self.top_k + 1, dtype=torch.float16)
        for indices, batch_ids, batch_probs in _top_k(self.network, text, self.starts[lines], top_k=self.top_k):
            ids[indices], probs[indices] = batch_ids.to("cpu", ids.dtype), batch_probs.to("cpu", probs.dtype)
        return {"ids": ids, "probs": probs}

    def targets(self, batch: Batch) -> TopK:
        """Return the targets in the order of batch.labels[batch.labels != PAD]; probs are float32 and sum to 1."""
        indices, is_token = _token_indices(batch, self.starts).cpu(), (batch.labels != PAD).cpu()
        file_numbers = (torch.tensor(batch.rows) // LINES_PER_FILE).expand_as(is_token)[is_token]
        ids = torch.empty(len(indices), self.top_k, dtype=self.files[0]["ids"].dtype)
        probs = torch.empty(len(indices), self.top_k + 1)
        for number in set(file_numbers.tolist()):
            here, file = file_numbers == number, self.files[number]
            ids[here], probs[here] = file["ids"][indices[here]], file["probs"][indices[here]].float()
        probs /= probs.sum(-1, keepdim=True)  # each was rounded to half precision
        return TopK(ids.to(batch.labels.device), probs.to(batch.labels.device))


TeacherTargets = FullTargets | TopKTargets


def make_targets(
    network: Network | None,
    text: TokenizedCorpus,
    group: DataParallelGroup,
    cache: TopKCache | None,
    *,
    changing: bool = False,
) -> TeacherTargets | None:
    """Return the targets of word-level KD: the top-k targets of a cache, without one the full distribution.

    network: None where an external teacher's targets are in the cache, or where there is no teacher at all; changing:
    whether batches hold other targets than text, so that nothing can be stored.
    """
    if cache is not None:
        return TopKTargets(network, text, cache)
    return None if network is None else FullTargets(network, text, group, changing=changing)


def file_path(cache: TopKCache, first: int) -> Path:
    """Return the file of the LINES_PER_FILE lines from row first on."""
    return cache.folder / f"{first:08}"


def write_file(path: Path, targets: dict[str, Tensor]) -> None:
    """Write what `compute_file` returns; the file is whole or absent."""
    with atomic.atomic_write(path) as partial:
        checkpoint.write_tensors(partial, targets)


def _top_k(
    network: Network, text: TokenizedCorpus, starts: Tensor, *, top_k: int
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Yield, for each batch, the indices of its tokens, their top-k ids, and the probs of these and of the rest."""
    for rows in batches.make_batches(text, BATCH_SIZE):
        batch = batches.collate(text, rows).to(network.device)
        logits = network.logits(_vectors(network, batch))
        values, ids = logits.topk(top_k, -1)
        probs = (values - logits.logsumexp(-1, keepdim=True)).exp()
        rest = (1.0 - probs.sum(-1, keepdim=True)).clamp(min=0.0)
        yield _token_indices(batch, starts).cpu(), ids, torch.cat((probs, rest), 1)


def _vectors(network: Network, batch: Batch) -> Tensor:
    """Return the attentional vectors, (tokens, H), of a batch's target tokens."""
    return network(batch.source, batch.decoder_input)[batch.labels != PAD]  # type: ignore[no-any-return]


def _token_indices(batch: Batch, starts: Tensor) -> Tensor:
    """Return the index of each of the batch's target tokens, (tokens,), where row r's tokens begin at starts[r]."""
    time = torch.arange(batch.labels.shape[0])[:, None]
    indices = (time + starts[batch.rows][None]).to(batch.labels.device)
    return indices[batch.labels != PAD]


def _evict(folder: Path) -> None:
    """Remove the folders that were not used for longest, all but MAX_CACHED."""
    by_age = sorted(folder.iterdir(), key=lambda path: path.stat().st_mtime)
    for path in by_age[:-MAX_CACHED]:
        shutil.rmtree(path, ignore_errors=True)
