"""Beam search: the teacher's mode, its n-best list, and a student's translation (Kim & Rush 2016, section 3.2).

A beam of K holds K hypotheses; one that ends keeps its slot, so the search stops when all K have ended. Scores are sums
of log-probabilities, divided by length ** length penalty in the end. Beam 1 is greedy search.
The search here is for a CPU: after each word it drops the rows and sentences that have ended. `beam_search_cuda` finds
the same in buffers of a fixed size.
Sizes in comments: B sentences in the batch, R live rows a sentence, V pieces.
"""

import sys
from collections.abc import Sequence

import torch
from torch import Tensor

from seqkd.config.machine import Machine
from seqkd.data.batches import MAX_LINE_PIECES, pad_left
from seqkd.data.nbest import Hypothesis
from seqkd.data.vocab import BOS, EOS
from seqkd.decoding import hypotheses
from seqkd.decoding.hypotheses import DEAD, FORBIDDEN_IDS, SearchSettings
from seqkd.models.interface import Continuations, DecoderState, EncoderOutput, Network
from seqkd.utils.errors import InputError, is_out_of_memory

MAX_PIECES_PER_ROW = 10  # source pieces, padding included, that a batch may have for each of its rows
# Rows up to which a batch may be padded at will: the last steps cost as much with few rows as with many.
FREE_PADDING_ROWS = 800
MAX_PADDING = 1.15  # of a larger batch: its pieces, padding included, divided by those that are no padding
GPU_ROWS_FACTOR = 10  # times as many rows on a GPU
MAX_GPU_SENTENCES = 1024  # in a batch on a GPU


def max_length(source_length: int) -> int:
    """Return the most pieces (EOS included) of a hypothesis for a source of so many pieces."""
    return 2 * source_length + 10


class BatchSizer:
    """How much a batch may hold; halved for good when memory runs out."""

    def __init__(self, max_rows: int) -> None:
        self.max_rows = max_rows  # sentences x beam
        self.max_sentences = MAX_GPU_SENTENCES
        self.warned = False

    def batch_size(self, lengths: Sequence[int], beam: int) -> int:
        """Return how many of the next sentences make a batch; lengths: their pieces, rising. A long one comes alone."""
        pieces, fitting = 0, 1
        for count, length in enumerate(lengths[: max(1, self.max_rows // beam)], start=1):
            pieces += length
            little_padding = count * beam <= FREE_PADDING_ROWS or count * length <= MAX_PADDING * pieces
            if count * length > self.max_rows * MAX_PIECES_PER_ROW or not little_padding:
                break
            fitting = count
        return fitting

    def gpu_batch_size(self, beam: int, length: int) -> int:
        """Return how many sentences of so many pieces make a batch on a GPU, which needs thousands of rows to be busy.

        A power of two, so that the sizes of captured CUDA graphs come again.
        """
        rows = GPU_ROWS_FACTOR * self.max_rows
        fitting = max(1, min(rows // beam, rows * MAX_PIECES_PER_ROW // length))
        return min(self.max_sentences, 1 << fitting.bit_length() - 1)

    def halve(self, sentences: int, *, pieces: int, beam: int) -> None:
        """Halve the size after a batch that memory did not suffice for. Raises InputError for a single sentence."""
        if sentences == 1:
            raise InputError(
                f"not enough memory to translate one sentence of {pieces} pieces with a beam of {beam}; "
                "use fewer processes (machine.yaml), a smaller beam or shorter sentences."
            )
        self.max_rows, self.max_sentences = max(1, self.max_rows // 2), max(1, sentences // 2)
        if not self.warned:
            message = f"Not enough memory for {sentences} sentences with a beam of {beam}: continuing with fewer."
            print(message, file=sys.stderr, flush=True)
        self.warned = True


def decode(
    network: Network,
    sources: Sequence[Sequence[int]],
    *,
    beam: int,
    nbest: int = 1,
    length_penalty: float = 0.0,
    batch_sizer: BatchSizer | None = None,
) -> list[list[Hypothesis]]:
    """Return every source's n-best list, in order, best first (fewer than nbest where the beam found fewer).

    sources: piece ids without BOS and EOS; an empty source gets one empty hypothesis, and of one with more than
    MAX_LINE_PIECES only so many are translated. nbest: at most beam.
    Sentences alike in length share a batch. Raises InputError where memory does not suffice for a single sentence.
    """
    sizer = batch_sizer or BatchSizer(Machine().max_batch_hypotheses)
    sources = [ids[:MAX_LINE_PIECES] for ids in sources]
    results: list[list[Hypothesis]] = [[Hypothesis((), 0.0, True)] for _ in sources]
    remaining = sorted((row for row, ids in enumerate(sources) if ids), key=lambda row: (len(sources[row]), row))
    with torch.inference_mode(), network.inference() as model:
        search = SearchSettings(model, beam, nbest, length_penalty)
        while remaining:
            rows = _next_batch(sources, remaining, sizer, search)
            batch = [sources[row] for row in rows]
            lists = _decode_batch(search, batch)
            if lists is None:
                sizer.halve(len(batch), pieces=len(batch[-1]), beam=beam)
                continue
            for row, nbest_list in zip(rows, lists, strict=True):
                results[row] = nbest_list
            remaining = remaining[len(rows) :]
    return results


def greedy(network: Network, sources: Sequence[Sequence[int]]) -> list[Hypothesis]:
    """Return the greedy translation of every source, in order."""
    return [best for best, *_ in decode(network, sources, beam=1)]


def _next_batch(
    sources: Sequence[Sequence[int]], remaining: list[int], sizer: BatchSizer, search: SearchSettings
) -> list[int]:
    """Return the first of the remaining rows, which rise in length, that make a batch."""
    if search.model.device.type != "cuda":
        lengths = [len(sources[row]) for row in remaining[: sizer.max_rows]]
        return remaining[: sizer.batch_size(lengths, search.beam)]
    rows = remaining[: sizer.gpu_batch_size(search.beam, len(sources[remaining[0]]))]
    return rows[: sizer.gpu_batch_size(search.beam, len(sources[rows[-1]]))]


def _decode_batch(search: SearchSettings, sources: Sequence[Sequence[int]]) -> list[list[Hypothesis]] | None:
    """Return the n-best lists of one batch; None, with all that it held freed, where memory does not suffice for it."""
    try:
        if search.model.device.type != "cuda":
            return _Beam(search, sources).run()
        from seqkd.decoding import beam_search_cuda

        return beam_search_cuda.run(search, sources, max_length)
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
    if search.model.graph_cache:
        search.model.graph_cache.clear()
        torch.cuda.empty_cache()
    return None


class _Beam:
    """The search for a batch of sentences; a sentence leaves it when its n-best list is complete."""

    def __init__(self, search: SearchSettings, sources: Sequence[Sequence[int]]) -> None:
        model, device = search.model, search.model.device
        self.search, self.model = search, model
        self.encoder_output: EncoderOutput = model.encode(pad_left(sources).to(device))
        self.state: DecoderState = model.init_state(self.encoder_output)
        self.parents = torch.arange(len(sources), device=device)  # (B x R,) the rows of state that are continued
        self.scores = torch.zeros(len(sources), 1, dtype=model.dtype, device=device)  # (B, R) best first
        self.words = torch.full((len(sources),), BOS, device=device)  # (B x R,)
        self.history = torch.empty(len(sources), 1, 0, dtype=torch.int32, device=device)  # (B, R, words so far)
        self.open_slots = torch.full((len(sources),), search.beam, device=device)  # (B,) not taken by ended ones
        self.sentences = list(range(len(sources)))  # those still in the batch
        self.limits = [max_length(len(source)) for source in sources]
        self.ended: list[list[Hypothesis]] = [[] for _ in sources]

    def run(self) -> list[list[Hypothesis]]:
        for length in range(1, max(self.limits) + 1):
            self.state = self.model.step(self.words, self.encoder_output, self.state, self.parents)
            self._extend()
            self._finish_rows(length)
            if not self.sentences:
                break
        nbest, length_penalty = self.search.nbest, self.search.length_penalty
        return [hypotheses.rank(ended, nbest=nbest, length_penalty=length_penalty) for ended in self.ended]

    def _extend(self) -> None:
        """Extend the live rows by the words that enter the beam; rows are then ordered by score."""
        self.scores, parents, words = self._continuations()
        self.words = words.view(-1)
        self._follow(parents)
        self.history = torch.cat((self.history, words.int()[:, :, None]), 2)

    def _continuations(self) -> Continuations:
        model, scores, open_slots = self.model, self.scores, self.open_slots
        chosen = model.top_k(self.state, scores, open_slots, forbidden_ids=FORBIDDEN_IDS)
        if chosen is not None:
            return chosen
        logits = model.logits(self.state)
        width = min(int(open_slots.max()), scores.shape[1] * (logits.shape[1] - len(FORBIDDEN_IDS)))
        return hypotheses.top_k_continuations(logits, scores, open_slots, width=width, forbidden_ids=FORBIDDEN_IDS)

    def _follow(self, parents: Tensor) -> None:
        """Reorder the history as the next step does the state; parents: (B, W) rows of their sentence."""
        count, rows, length = self.history.shape
        self.parents = (parents + torch.arange(count, device=parents.device)[:, None] * rows).view(-1)
        if rows == 1 and parents.shape[1] == 1:
            return
        self.history = self.history.gather(1, parents[:, :, None].expand(-1, -1, length))

    def _finish_rows(self, length: int) -> None:
        """Take the rows that ended out of the beam, and the sentences that are complete out of the batch."""
        words = self.words.view(self.scores.shape)
        alive = self.scores > DEAD
        ends = (words == EOS) & alive
        at_limit = any(self.limits[sentence] <= length for sentence in self.sentences)
        if not bool(ends.any()) and not at_limit:
            return
        self._record(ends, finished=True)
        self.open_slots = self.open_slots - ends.sum(1)
        alive = alive & ~ends
        best_alive = torch.where(alive, self.scores, DEAD).amax(1).tolist()
        complete = list(map(self._is_complete, self.sentences, best_alive))
        over = torch.tensor([self.limits[sentence] <= length for sentence in self.sentences], device=alive.device)
        self._record(alive & over[:, None], finished=False)
        active = torch.tensor([not (done or cut) for done, cut in zip(complete, over.tolist(), strict=True)])
        self._shrink(alive, active.nonzero()[:, 0].to(alive.device))

    def _is_complete(self, sentence: int, best_alive: float) -> bool:
        """Return whether no live row can change the sentence's n-best list any more."""
        ended, nbest = self.ended[sentence], self.search.nbest
        if len(ended) >= self.search.beam or best_alive == DEAD:
            return True
        if len(ended) < nbest or self.search.length_penalty:
            return False
        return sorted(hypothesis.logprob for hypothesis in ended)[-nbest] >= best_alive  # a sum of logs only falls

    def _record(self, rows: Tensor, *, finished: bool) -> None:
        """Add rows (B, R) to the hypotheses of their sentences."""
        if not bool(rows.any()):
            return
        written, scores = self.history[rows].tolist(), self.scores[rows].double().tolist()
        for (index, _), ids, score in zip(rows.nonzero().tolist(), written, scores, strict=True):
            words = tuple(ids[:-1] if finished else ids)
            self.ended[self.sentences[index]].append(Hypothesis(words, score, finished))

    def _shrink(self, alive: Tensor, active: Tensor) -> None:
        """Keep the live rows of the active sentences, in front and best first; active: (n,) indices in the batch."""
        if not len(active):
            self.sentences = []
            return
        count, width = self.scores.shape
        scores = torch.where(alive, self.scores, DEAD)[active]
        self.scores, order = scores.sort(dim=1, descending=True, stable=True)
        most = int(alive[active].sum(1).max())
        self.scores, order = self.scores[:, :most], order[:, :most]
        if len(active) < count:
            self.encoder_output, self.open_slots = self.encoder_output.select(active), self.open_slots[active]
            self.sentences = [self.sentences[index] for index in active.tolist()]
        rows = (active[:, None] * width + order).view(-1)
        self.parents, self.words = self.parents[rows], self.words[rows]
        self.history = self.history.view(count * width, -1)[rows].view(len(active), most, -1)
