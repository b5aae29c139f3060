"""Beam search: the teacher's mode, its n-best list, and a student's translation (Kim & Rush 2016, section 3.2).

A beam of K holds K hypotheses; one that ends keeps its place, so the search stops when all K have ended. Scores are
sums of log-probabilities, or log-probability / length ** normalise. Beam 1 is greedy search.
Sizes in comments: B sentences in the batch, R live rows a sentence, V pieces.
"""

import sys
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from seqkd.config.schema import Machine
from seqkd.data.batches import pad_left
from seqkd.data.nbest import Hypothesis
from seqkd.data.vocab import BOS, EOS, PAD
from seqkd.decoding import beam_search_cuda
from seqkd.decoding.beam_search_cuda import DEAD
from seqkd.models.lstm import DecoderState, EncoderOutput, InferenceModel, LSTMNetwork
from seqkd.utils.errors import InputError

MAX_PIECES_PER_ROW = 10  # source pieces, padding included, that a batch may have for each of its rows
FREE_PADDING_ROWS = (
    800  # rows up to which a batch may be padded at will: the last steps cost as much with few rows as with many
)
MAX_PADDING = 1.15  # of a larger batch's pieces, padding included, to those that are no padding
GPU_ROWS_FACTOR = 10  # times as many rows on a GPU


def top_k_continuations(
    logits: Tensor, scores: Tensor, room: Tensor, *, forbidden_ids: tuple[int, ...]
) -> tuple[Tensor, Tensor, Tensor]:
    """The continuations with which each beam goes on: the room best of a sentence, best first.

    logits: (B x R, V); scores: (B, R) log-probabilities so far; room: (B,); barred: words that are never written.
    Returns (B, W) each: log-probabilities, -inf beyond a sentence's room; the rows they continue; the words they add.
    """
    width = min(int(room.max()), scores.shape[1] * (logits.shape[1] - len(forbidden_ids)))
    return beam_search_cuda.top_k_continuations(logits.clone(), scores, room, width=width, forbidden_ids=forbidden_ids)


class _Ended(NamedTuple):
    score: float
    hypothesis: Hypothesis


def max_length(source: int) -> int:
    """The most pieces (EOS included) of a hypothesis for a source of so many pieces."""
    return 2 * source + 10


class BatchSizer:
    """How much a batch may hold at once; halved for good where memory does not suffice."""

    def __init__(self, rows: int) -> None:
        self.rows = rows  # sentences x beam
        self.most = beam_search_cuda.MAX_SENTENCES  # sentences
        self.told = False

    def sentences(self, lengths: Sequence[int], beam: int) -> int:
        """How many of the next sentences make a batch; lengths: their pieces, rising. A long one comes alone."""
        pieces, fitting = 0, 1
        for count, length in enumerate(lengths[: max(1, self.rows // beam)], start=1):
            pieces += length
            even = count * beam <= FREE_PADDING_ROWS or count * length <= MAX_PADDING * pieces
            if count * length > self.rows * MAX_PIECES_PER_ROW or not even:
                break
            fitting = count
        return fitting

    def places(self, beam: int, length: int) -> int:
        """How many sentences of so many pieces make a board on a GPU, which needs thousands of rows to be busy."""
        rows = GPU_ROWS_FACTOR * self.rows
        return min(self.most, 1 << max(1, min(rows // beam, rows * MAX_PIECES_PER_ROW // length)).bit_length() - 1)

    def halve(self, sentences: int, *, pieces: int, beam: int) -> None:
        """After a batch that memory did not suffice for. Raises InputError where it was a single sentence."""
        if sentences == 1:
            raise InputError(
                f"not enough memory to translate one sentence of {pieces} pieces with a beam of {beam}; "
                "use fewer processes (machine.yaml), a smaller beam or shorter sentences."
            )
        self.rows, self.most = max(1, self.rows // 2), max(1, sentences // 2)
        if not self.told:
            text = f"Not enough memory for {sentences} sentences with a beam of {beam}: going on with fewer at once."
            print(text, file=sys.stderr, flush=True)
        self.told = True


def decode(
    network: LSTMNetwork,
    sources: Sequence[Sequence[int]],
    *,
    beam: int,
    nbest: int = 1,
    length_penalty: float = 0.0,
    budget: BatchSizer | None = None,
) -> list[list[Hypothesis]]:
    """For every source, in order, its nbest hypotheses, best first (fewer where the beam found fewer).

    sources: piece ids without marks; an empty source gets one empty hypothesis. nbest: at most beam.
    Sentences alike in length share a batch. Raises InputError where memory does not suffice for a single sentence.
    """
    budget = budget or BatchSizer(Machine().max_batch_hypotheses)
    found: list[list[Hypothesis]] = [[Hypothesis((), 0.0, True)] for _ in sources]
    left = sorted((row for row, ids in enumerate(sources) if ids), key=lambda row: (len(sources[row]), row))
    with torch.inference_mode(), network.inference() as ready:
        while left:
            if network.output.is_cuda:
                rows = left[: budget.places(beam, len(sources[left[0]]))]
                rows = rows[: budget.places(beam, len(sources[rows[-1]]))]
            else:
                rows = left[: budget.sentences([len(sources[row]) for row in left[: budget.rows]], beam)]
            batch = [sources[row] for row in rows]
            lists = _decode_batch(network, batch, ready, beam=beam, nbest=nbest, length_penalty=length_penalty)
            if lists is None:
                budget.halve(len(batch), pieces=len(batch[-1]), beam=beam)
                continue
            for row, hypotheses in zip(rows, lists, strict=True):
                found[row] = hypotheses
            left = left[len(rows) :]
    return found


def _decode_batch(
    network: LSTMNetwork,
    sources: Sequence[Sequence[int]],
    ready: InferenceModel,
    *,
    beam: int,
    nbest: int,
    length_penalty: float,
) -> list[list[Hypothesis]] | None:
    """The hypotheses of one batch; None, with all that it held freed, where memory does not suffice for it."""
    try:
        if network.output.is_cuda:
            return beam_search_cuda.run(
                beam_search_cuda.SearchSettings(network, ready, beam, nbest, length_penalty), sources, max_length
            )
        return _Beam(network, sources, ready=ready, beam=beam, nbest=nbest, length_penalty=length_penalty).run()
    except (MemoryError, RuntimeError) as error:  # in the words of Python, torch, CUDA or the C++ below them
        words = ("allocate memory", "not enough memory", "out of memory", "bad_alloc", "ALLOC_FAILED")
        if not isinstance(error, MemoryError) and not any(word in str(error) for word in words):
            raise
    if ready.boards:
        ready.boards.clear()
        torch.cuda.empty_cache()
    return None


class _Beam:
    """The search for a batch of sentences; a sentence leaves it when its list is complete."""

    def __init__(
        self,
        network: LSTMNetwork,
        sources: Sequence[Sequence[int]],
        *,
        ready: InferenceModel,
        beam: int,
        nbest: int,
        length_penalty: float,
    ) -> None:
        device = network.output.device
        self.ready, self.beam, self.nbest, self.length_penalty = ready, beam, nbest, length_penalty
        self.memory: EncoderOutput = ready.encode(pad_left(sources).to(device))
        self.last = DecoderState(torch.zeros_like(self.memory.state[0]), self.memory.state, self.memory.cell)
        self.parents = torch.arange(len(sources), device=device)  # (B x R,) the rows of last that are continued
        self.scores = self.memory.state.new_zeros(len(sources), 1)  # (B, R) log-probabilities, best first
        self.words = torch.full((len(sources),), BOS, device=device)  # (B x R,)
        self.history = torch.empty(len(sources), 1, 0, dtype=torch.int32, device=device)  # (B, R, so far)
        self.room = torch.full((len(sources),), beam, device=device)  # (B,) places not taken by ended hypotheses
        self.sentences = list(range(len(sources)))
        self.limit = max(max_length(len(source)) for source in sources)
        self.limits = [max_length(len(source)) for source in sources]
        self.ended: list[list[_Ended]] = [[] for _ in sources]

    def run(self) -> list[list[Hypothesis]]:
        for length in range(1, self.limit + 1):
            self.last = self.ready.step(self.words, self.memory, self.last, self.parents)
            self._extend()
            self._retire(length)
            if not self.sentences:
                break
        lists = (items[: self.beam] for items in self.ended)
        ranked = (sorted(items, key=lambda item: (-item.hypothesis.finished, -item.score)) for items in lists)
        return [[item.hypothesis for item in items[: self.nbest]] for items in ranked]

    def _extend(self) -> None:
        """Every live row by the words that may enter the beam; rows are then ordered by score."""
        vectors, continued = self.last.attn_vector, self.ready.best
        given = (vectors if continued else self.ready.logits(vectors)), self.scores, self.room
        self.scores, parent, word = (continued or top_k_continuations)(*given, forbidden_ids=(PAD, BOS))
        self.words = word.view(-1)
        self._follow(parent)
        self.history = torch.cat((self.history, word.int()[:, :, None]), 2)

    def _follow(self, parent: Tensor) -> None:
        """Brings the history to the chosen rows, as the next step does the state; parent: (B, width) in a sentence."""
        count, rows, length = self.history.shape
        self.parents = (parent + torch.arange(count, device=parent.device)[:, None] * rows).view(-1)
        if rows == 1 and parent.shape[1] == 1:
            return
        self.history = self.history.gather(1, parent[:, :, None].expand(-1, -1, length))

    def _retire(self, length: int) -> None:
        """Takes the rows that ended out of the beam, and the sentences that are done out of the batch."""
        words = self.words.view(self.scores.shape)
        alive = self.scores > DEAD
        ends = (words == EOS) & alive
        at_limit = any(self.limits[sentence] <= length for sentence in self.sentences)
        if not bool(ends.any()) and not at_limit:
            return
        self._record(ends, length, finished=True)
        self.room = self.room - ends.sum(1)
        alive = alive & ~ends
        top = torch.where(alive, self.scores, DEAD).amax(1).tolist()
        done = [self._complete(sentence, score, length) for sentence, score in zip(self.sentences, top, strict=True)]
        over = torch.tensor([self.limits[sentence] <= length for sentence in self.sentences], device=alive.device)
        self._record(alive & over[:, None], length, finished=False)
        going = torch.tensor([not (ready or cut) for ready, cut in zip(done, over.tolist(), strict=True)])
        self._shrink(alive, going.nonzero()[:, 0].to(alive.device))

    def _complete(self, sentence: int, best: float, length: int) -> bool:
        """Whether nothing alive can change the sentence's list any more."""
        ended = self.ended[sentence]
        if len(ended) >= self.beam or best == DEAD:
            return True
        if len(ended) < self.nbest or self.length_penalty:
            return False
        return sorted(item.score for item in ended)[-self.nbest] >= best  # a sum of logs only falls

    def _record(self, rows: Tensor, length: int, *, finished: bool) -> None:
        """Moves rows (B, R) to their sentences' lists."""
        if not bool(rows.any()):
            return
        places = rows.nonzero()
        ids, scores = self.history[rows].tolist(), self.scores[rows].double().tolist()
        for (at, _), sequence, score in zip(places.tolist(), ids, scores, strict=True):
            words = tuple(sequence[:-1] if finished else sequence)
            normal = score / length**self.length_penalty
            self.ended[self.sentences[at]].append(_Ended(normal, Hypothesis(words, score, finished)))

    def _shrink(self, alive: Tensor, going: Tensor) -> None:
        """Keeps the live rows of the sentences in going, in front and best first."""
        if not len(going):
            self.sentences = []
            return
        count, width = self.scores.shape
        scores = torch.where(alive, self.scores, DEAD)[going]
        self.scores, order = scores.sort(dim=1, descending=True, stable=True)
        most = int(alive[going].sum(1).max())
        self.scores, order = self.scores[:, :most], order[:, :most]
        if len(going) < count:
            self.memory, self.room = self.memory.at(going), self.room[going]
            self.sentences = [self.sentences[at] for at in going.tolist()]
        rows = (going[:, None] * width + order).view(-1)
        self.parents, self.words = self.parents[rows], self.words[rows]
        self.history = self.history.view(count * width, -1)[rows].view(len(going), most, -1)
