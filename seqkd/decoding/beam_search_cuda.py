"""Beam search in fixed shapes, for a GPU: every step is the same kernels over the same memory, recorded and replayed.

`search` says what is found; it lets go of what has ended, and asks after every word. Here what has ended stays in its
place with the score -inf, every word and where it came from is noted on the GPU, and the host asks once in LOOK steps
what still lives; lists are read off the notes at the end. Once half of a board's sentences are done, the others move to
a board of half the size.
Sizes: B sentences, K rows of each (the beam), S source positions, T steps at most, L layers, H hidden units, V pieces.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from seqkd.data.nbest import Hypothesis
from seqkd.data.vocab import BOS, EOS, PAD
from seqkd.models.lstm import DecoderState, EncoderOutput, InferenceModel, LSTMNetwork
from seqkd.ops.cuda import graphs

DEAD = float("-inf")
ENDED, TRUNCATED = 1, 2  # how a row's hypothesis leaves the search: with its end written, or too long
SYNC_EVERY = 8  # steps between two looks at what lives
LENGTH_MULTIPLE = 8  # a board's source positions are a multiple of this
MAX_SENTENCES = 1024  # sentences on a board
POOL = "pool"  # among the boards: the memory that their records share


Continuations = tuple[Tensor, Tensor, Tensor]


def top_k_continuations(
    logits: Tensor, scores: Tensor, room: Tensor, *, width: int, forbidden_ids: Sequence[int]
) -> Continuations:
    """The width best continuations of each sentence's rows, best first.

    logits: (B x R, V), used up; scores: (B, R) log-probabilities so far; room: (B,) places that a sentence has; barred:
    words that are never written.
    Returns (B, width) each: log-probabilities, -inf beyond a sentence's room; the rows they continue; the words they
    add.
    """
    normaliser = logits.logsumexp(-1, keepdim=True)
    for mark in forbidden_ids:
        logits[:, mark] = DEAD
    most = min(width, logits.shape[1] - len(forbidden_ids))
    # before the normaliser is taken off, which changes no row's order
    values, word = logits.max(-1, keepdim=True) if most == 1 else logits.topk(most, -1)
    values = (values - normaliser + scores.reshape(-1, 1)).reshape(len(scores), -1)
    found, chosen = values.topk(width, -1)
    beyond = torch.arange(width, device=room.device) >= room[:, None]
    return found.masked_fill(beyond, DEAD), chosen // most, word.reshape(len(scores), -1).gather(1, chosen)


@dataclass(frozen=True)
class SearchSettings:
    """What every board of a search has in common."""

    network: LSTMNetwork
    ready: InferenceModel
    beam: int
    nbest: int
    length_penalty: float


class StaticBeam:
    """Places for so many sentences of so many pieces, so many words of which are written at most."""

    def __init__(self, search: SearchSettings, *, sentences: int, source: int, steps: int, pool: Any) -> None:
        network, beam = search.network, search.beam
        self.search, self.size = search, sentences
        _, layers, hidden, _ = network.shape
        like = network.output
        real, whole = like.new_zeros, partial(torch.zeros, device=like.device)
        self.source = whole(source, sentences, dtype=torch.int64)
        self.limits = whole(sentences, dtype=torch.int64)  # words that may be written; 0: no sentence is in this place
        self.states, self.keys = real(sentences, source, hidden), real(sentences, source, hidden)
        self.closed = real(sentences, 1, source)
        self.attn_vector = real(sentences, beam, hidden)
        self.state, self.cell = real(layers, sentences, beam, hidden), real(layers, sentences, beam, hidden)
        self.scores = real(sentences, beam)
        self.words = whole(sentences, beam, dtype=torch.int64)
        self.parent_rows = whole(sentences, beam, dtype=torch.int64)  # the rows, of their sentence, that they continue
        self.room = whole(sentences, dtype=torch.int64)  # places of the beam that nothing that ended takes
        self.ended = real(sentences, search.nbest)  # scores of the best that ended
        self.time = whole(1, dtype=torch.int64)  # words written
        self.parents, self.written = (whole(steps, sentences, beam, dtype=torch.int32) for _ in range(2))
        self.score_history, self.finish_reasons = (
            real(steps, sentences, beam),
            whole(steps, sentences, beam, dtype=torch.int8),
        )
        self.first_rows = beam * torch.arange(sentences, device=like.device)[:, None]
        self.begin = graphs.capture(self._begin, pool=pool)
        self.step = graphs.capture(self._step, pool=pool)

    def _begin(self) -> None:
        memory = self.search.network.encode(self.source)
        self.states.copy_(memory.states)
        self.keys.copy_(memory.keys)
        self.closed.copy_(memory.closed)
        self.state.copy_(memory.state[:, :, None].expand_as(self.state))
        self.cell.copy_(memory.cell[:, :, None].expand_as(self.cell))
        self.attn_vector.zero_()
        self.scores.fill_(DEAD)
        self.scores[:, 0] = torch.where(self.limits > 0, 0.0, DEAD)
        self.words.fill_(BOS)
        self.parent_rows.zero_()
        self.room.fill_(self.search.beam)
        self.ended.fill_(DEAD)
        self.time.zero_()

    def _step(self) -> None:
        """One word more in every row that lives."""
        search, beam = self.search, self.search.beam
        rows = self.size * beam
        memory = EncoderOutput(
            self.states, self.keys, self.closed, self.state, self.cell
        )  # of which a step takes three
        last = DecoderState(
            self.attn_vector.view(rows, -1), *(it.view(len(it), rows, -1) for it in (self.state, self.cell))
        )
        parent_rows = (self.parent_rows + self.first_rows).view(-1)
        last = search.ready.step(self.words.view(-1), memory, last, parent_rows)
        values, parent, word = top_k_continuations(
            search.ready.logits(last.attn_vector), self.scores, self.room, width=beam, forbidden_ids=(PAD, BOS)
        )
        for mine, found in ((self.attn_vector, last.attn_vector), (self.state, last.state), (self.cell, last.cell)):
            mine.copy_(found.view_as(mine))
        self.words.copy_(word)
        self.parent_rows.copy_(parent)
        ends = (word == EOS) & (values > DEAD)
        alive = (values > DEAD) & ~ends
        cut = self.limits <= self.time + 1
        self._note(parent, word, values, ends * ENDED + (alive & cut[:, None]) * TRUNCATED)
        self.room -= ends.sum(1)
        self.ended.copy_(torch.cat((self.ended, torch.where(ends, values, DEAD)), 1).topk(search.nbest, 1).values)
        done = cut
        if not search.length_penalty:  # a sum of logs only falls
            done = cut | (self.ended[:, -1] >= torch.where(alive, values, DEAD).amax(1))
        self.scores.copy_(torch.where(alive & ~done[:, None], values, DEAD))
        self.time += 1

    def _note(self, parent: Tensor, word: Tensor, values: Tensor, fate: Tensor) -> None:
        for notes, now in (
            (self.parents, parent),
            (self.written, word),
            (self.score_history, values),
            (self.finish_reasons, fate),
        ):
            notes.index_copy_(0, self.time, now[None].to(notes.dtype))

    def enter(self, sources: Sequence[Sequence[int]], limits: Sequence[int]) -> None:
        """Begins with these sentences; the places that are left stay empty."""
        longest, empty = len(self.source), self.size - len(sources)
        rows = [[PAD] * (longest - len(ids)) + list(ids) for ids in sources]
        rows += [[PAD] * (longest - 1) + [EOS]] * empty  # padding alone would leave nothing to attend to
        self.source.copy_(torch.tensor(rows).t())
        self.limits.copy_(torch.tensor([*limits, *[0] * empty]))
        self.begin()

    def active(self) -> list[int]:
        """The places of the sentences that are not done."""
        places: list[int] = (self.scores > DEAD).any(1).nonzero()[:, 0].tolist()
        return places

    def take(self, other: "StaticBeam", places: list[int]) -> None:
        """Goes on with those sentences of another board."""
        chosen = torch.tensor(places + places[:1] * (self.size - len(places)), device=self.scores.device)
        for name, along in _BY_SENTENCE.items():
            getattr(self, name).copy_(getattr(other, name).index_select(along, chosen))
        self.time.copy_(other.time)
        self.scores[len(places) :] = DEAD

    def lists(self, places: list[int]) -> list[list[Hypothesis]]:
        """What was found for the sentences there, each list best first, those that did not end last."""
        steps, chosen = int(self.time), torch.tensor(places, dtype=torch.int64, device=self.scores.device)
        notes = (self.finish_reasons, self.written, self.parents, self.score_history)
        finish_reasons, written, parents, score_history = (
            it[:steps].index_select(1, chosen).cpu().numpy() for it in notes
        )
        length, sentence, row = finish_reasons.nonzero()  # by length, as a search would meet them
        ids, at = np.zeros((len(row), steps), np.int32), row.copy()
        for time in range(steps - 1, -1, -1):
            here = length >= time
            ids[here, time] = written[time, sentence[here], at[here]]
            at[here] = parents[time, sentence[here], at[here]]
        finished = finish_reasons[length, sentence, row] == ENDED
        scores = score_history[length, sentence, row].astype(np.float64)
        normal = scores / (length + 1) ** self.search.length_penalty
        found: list[list[Hypothesis]] = [[] for _ in places]
        words, long = ids.tolist(), (length + ~finished).tolist()  # the end is not among a hypothesis's words
        for item in np.lexsort((-normal, ~finished)).tolist():
            hypothesis = Hypothesis(tuple(words[item][: long[item]]), float(scores[item]), bool(finished[item]))
            found[sentence[item]].append(hypothesis)
        return [items[: self.search.nbest] for items in found]


_BY_SENTENCE = {
    **dict.fromkeys(
        ("states", "keys", "closed", "attn_vector", "scores", "words", "parent_rows", "room", "ended", "limits"), 0
    ),
    **dict.fromkeys(("state", "cell", "parents", "written", "score_history", "finish_reasons"), 1),
}


def run(
    search: SearchSettings, sources: Sequence[Sequence[int]], limit: Callable[[int], int]
) -> list[list[Hypothesis]]:
    """search.decode for one board of sentences, none empty; limit: the most words for so many source pieces."""
    source = -(-max(map(len, sources)) // LENGTH_MULTIPLE) * LENGTH_MULTIPLE
    steps, size = limit(source), 1 << (len(sources) - 1).bit_length()
    board, names = _board(search, size, source, steps), list(range(len(sources)))
    board.enter(sources, [limit(len(ids)) for ids in sources])
    found: list[list[Hypothesis]] = [[] for _ in sources]
    for step in range(1, steps + 1):
        board.step()
        if step % SYNC_EVERY and step < steps:
            continue
        active = board.active() if step < steps else []
        if 2 * len(active) > board.size:
            continue
        left = set(active)
        done = [place for place in range(len(names)) if place not in left]
        for place, items in zip(done, board.lists(done), strict=True):
            found[names[place]] = items
        if not active:
            break
        smaller = _board(search, board.size // 2, source, steps)
        smaller.take(board, active)
        board, names = smaller, [names[place] for place in active]
    return found


def _board(search: SearchSettings, sentences: int, source: int, steps: int) -> StaticBeam:
    """The one that such a search has used before, or a new one."""
    boards = search.ready.boards
    key = (sentences, source, steps, search.beam, search.nbest, search.length_penalty)
    if key not in boards:
        if search.network.output.is_cuda and not boards:
            boards[POOL] = torch.cuda.graph_pool_handle()  # lives as long as a record that uses it
        boards[key] = StaticBeam(search, sentences=sentences, source=source, steps=steps, pool=boards.get(POOL))
    board: StaticBeam = boards[key]
    return board
