"""Beam search for a GPU, in buffers of a fixed size: every step is the same kernels, captured once as a CUDA graph.

`beam_search` defines the result; it drops what has ended and asks after every word. Here an ended row stays in its
buffers with the score -inf, the GPU keeps a history of all words and parents, and the host asks only once in SYNC_EVERY
steps which sentences are active; n-best lists are read off the history at the end. Once half of a batch's sentences are
done, the others move to buffers of half the size.
Sizes: B sentences, K rows of each (the beam), S source positions, T steps at most.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from seqkd.data.nbest import Hypothesis
from seqkd.data.vocab import BOS, EOS, PAD
from seqkd.decoding import hypotheses
from seqkd.decoding.hypotheses import DEAD, FORBIDDEN_IDS, SearchSettings
from seqkd.models.interface import DecoderState, EncoderOutput
from seqkd.ops.cuda import graphs

FINISHED, TRUNCATED = 1, 2  # why a row's hypothesis left the search: it wrote EOS, or became too long; 0: it did not
SYNC_EVERY = 8  # steps between two looks at which sentences are active
LENGTH_MULTIPLE = 8  # source positions are padded to a multiple of this, so that graphs can be used again
POOL = "pool"  # in the graph cache: the memory that all captured graphs share


class _Beams(NamedTuple):
    """What is known of every sentence between two steps."""

    limits: Tensor  # (B,) words that may be written; 0: an unused row of the batch
    scores: Tensor  # (B, K) log-probabilities, DEAD where no hypothesis lives
    words: Tensor  # (B, K) the last word of each
    parents: Tensor  # (B, K) the rows, of their sentence, in the decoder state, that they continue
    open_slots: Tensor  # (B,) places of the beam that no ended hypothesis takes
    best_finished: Tensor  # (B, nbest) scores, best first


class _History(NamedTuple):
    """What was written at every step, (T, B, K) each."""

    words: Tensor
    parents: Tensor
    scores: Tensor
    finish_reasons: Tensor


class StaticBeam:
    """Buffers for the search of B sentences of S pieces, of at most T words, and its two captured CUDA graphs."""

    def __init__(self, search: SearchSettings, *, sentences: int, source_length: int, steps: int, pool: Any) -> None:
        model, beam = search.model, search.beam
        real = partial(torch.zeros, dtype=model.dtype, device=model.device)
        whole = partial(torch.zeros, dtype=torch.int64, device=model.device)
        self.search, self.sentences = search, sentences
        self.source = whole(source_length, sentences) + EOS
        example = model.encode(self.source[:, :1])  # its sentence, repeated, makes buffers of the network's own form
        self.encoder_output: EncoderOutput = example.select(whole(sentences))
        self.state: DecoderState = model.init_state(example).reorder(whole(sentences * beam))
        self.beams = _Beams(
            limits=whole(sentences),
            scores=real(sentences, beam),
            words=whole(sentences, beam),
            parents=whole(sentences, beam),
            open_slots=whole(sentences),
            best_finished=real(sentences, search.nbest),
        )
        small = partial(torch.zeros, steps, sentences, beam, device=model.device)
        words, parents = small(dtype=torch.int32), small(dtype=torch.int32)
        self.history = _History(words, parents, small(dtype=model.dtype), small(dtype=torch.int8))
        self.time = whole(1)  # words written
        self.sentence_of_row = torch.arange(sentences, device=model.device).repeat_interleave(beam)  # (B x K,)
        self.first_rows = beam * torch.arange(sentences, device=model.device)[:, None]
        self.begin = graphs.capture(self._begin, pool=pool)
        self.step = graphs.capture(self._step, pool=pool)

    def _begin(self) -> None:
        """Encode the source and start every beam with one empty hypothesis."""
        encoder_output = self.search.model.encode(self.source)
        self.encoder_output.copy_(encoder_output)
        self.state.copy_(self.search.model.init_state(encoder_output).reorder(self.sentence_of_row))
        beams = self.beams
        beams.scores.fill_(DEAD)
        beams.scores[:, 0] = torch.where(beams.limits > 0, 0.0, DEAD)
        beams.words.fill_(BOS)
        beams.parents.zero_()
        beams.open_slots.fill_(self.search.beam)
        beams.best_finished.fill_(DEAD)
        self.time.zero_()

    def _step(self) -> None:
        """Extend every live row by one word."""
        beams, model = self.beams, self.search.model
        rows = (beams.parents + self.first_rows).view(-1)
        state = model.step(beams.words.view(-1), self.encoder_output, self.state, rows)
        scores, parents, words = hypotheses.top_k_continuations(
            model.logits(state), beams.scores, beams.open_slots, width=self.search.beam, forbidden_ids=FORBIDDEN_IDS
        )
        self.state.copy_(state)
        beams.words.copy_(words)
        beams.parents.copy_(parents)
        self._finish_rows(words, parents, scores)
        self.time += 1

    def _finish_rows(self, words: Tensor, parents: Tensor, scores: Tensor) -> None:
        """Record the step, and leave a score only to the rows that go on; all (B, K)."""
        beams, nbest = self.beams, self.search.nbest
        ends = (words == EOS) & (scores > DEAD)
        alive = (scores > DEAD) & ~ends
        done = cut = beams.limits <= self.time + 1
        reasons = ends * FINISHED + (alive & cut[:, None]) * TRUNCATED
        for history, values in zip(self.history, (words, parents, scores, reasons), strict=True):
            history.index_copy_(0, self.time, values[None].to(history.dtype))
        beams.open_slots.sub_(ends.sum(1))
        finished = torch.cat((beams.best_finished, torch.where(ends, scores, DEAD)), 1)
        beams.best_finished.copy_(finished.topk(nbest, 1).values)
        if not self.search.length_penalty:  # a sum of logs only falls
            done = cut | (beams.best_finished[:, -1] >= torch.where(alive, scores, DEAD).amax(1))
        beams.scores.copy_(torch.where(alive & ~done[:, None], scores, DEAD))

    def load(self, sources: Sequence[Sequence[int]], limits: Sequence[int]) -> None:
        """Begin the search of these sentences; the rest of the batch stays unused."""
        length, unused = len(self.source), self.sentences - len(sources)
        rows = [[PAD] * (length - len(ids)) + list(ids) for ids in sources]
        rows += [[PAD] * (length - 1) + [EOS]] * unused  # padding alone would leave nothing to attend to
        self.source.copy_(torch.tensor(rows).t())
        self.beams.limits.copy_(torch.tensor([*limits, *[0] * unused]))
        self.begin()

    def active(self) -> list[int]:
        """Return the indices of the sentences that are not done."""
        indices: list[int] = (self.beams.scores > DEAD).any(1).nonzero()[:, 0].tolist()
        return indices

    def compact_from(self, other: "StaticBeam", active: list[int]) -> None:
        """Go on with these sentences of a larger one."""
        padded = active + active[:1] * (self.sentences - len(active))
        chosen = torch.tensor(padded, device=self.search.model.device)
        offsets = torch.arange(self.search.beam, device=chosen.device)
        self.encoder_output.copy_(other.encoder_output.select(chosen))
        self.state.copy_(other.state.reorder((other.first_rows[chosen] + offsets).view(-1)))
        for buffer, larger in zip(self.beams, other.beams, strict=True):
            buffer.copy_(larger.index_select(0, chosen))
        for buffer, larger in zip(self.history, other.history, strict=True):
            buffer.copy_(larger.index_select(1, chosen))
        self.time.copy_(other.time)
        self.beams.scores[len(active) :] = DEAD

    def nbest_lists(self, sentences: list[int]) -> list[list[Hypothesis]]:
        """Return the n-best lists of the sentences with these indices."""
        steps, chosen = int(self.time), torch.tensor(sentences, dtype=torch.int64, device=self.time.device)
        words, parents, scores, reasons = (
            history[:steps].index_select(1, chosen).cpu().numpy() for history in self.history
        )
        ends = reasons.nonzero()  # (time, sentence, row), ordered by time, as beam_search meets them
        ids, finished = _trace_back(words, parents, ends), reasons[ends] == FINISHED
        lengths = ends[0] + ~finished  # EOS is not among a hypothesis's words
        ended: list[list[Hypothesis]] = [[] for _ in sentences]
        each = ends[1], ids, lengths, scores[ends].astype(np.float64), finished
        for index, written, length, score, reached_eos in zip(*(values.tolist() for values in each), strict=True):
            ended[index].append(Hypothesis(tuple(written[:length]), score, reached_eos))
        nbest, length_penalty = self.search.nbest, self.search.length_penalty
        return [hypotheses.rank(items, nbest=nbest, length_penalty=length_penalty) for items in ended]


def _trace_back(words: NDArray[Any], parents: NDArray[Any], ends: tuple[NDArray[Any], ...]) -> NDArray[Any]:
    """Return the words (n, T) of n hypotheses; words, parents: (T, B, K); ends: each one's last step, sentence, row."""
    last, sentence, row = ends
    ids, row = np.zeros((len(row), len(words)), np.int32), row.copy()
    for time in range(len(words) - 1, -1, -1):
        written = last >= time
        index = time, sentence[written], row[written]
        ids[written, time] = words[index]
        row[written] = parents[index]
    return ids


def run(
    search: SearchSettings, sources: Sequence[Sequence[int]], max_length: Callable[[int], int]
) -> list[list[Hypothesis]]:
    """Do what beam_search.decode does, for one batch of sentences, none empty."""
    length = -(-max(map(len, sources)) // LENGTH_MULTIPLE) * LENGTH_MULTIPLE
    steps, size = max_length(length), 1 << (len(sources) - 1).bit_length()
    beam, rows = _static_beam(search, size, length, steps), list(range(len(sources)))  # rows: of sources, in the beam
    beam.load(sources, [max_length(len(ids)) for ids in sources])
    results: list[list[Hypothesis]] = [[] for _ in sources]
    for step in range(1, steps + 1):
        beam.step()
        if step % SYNC_EVERY and step < steps:
            continue
        active = beam.active() if step < steps else []
        if 2 * len(active) > beam.sentences:
            continue
        done = sorted({*range(len(rows))} - {*active})
        for index, nbest_list in zip(done, beam.nbest_lists(done), strict=True):
            results[rows[index]] = nbest_list
        if not active:
            break
        smaller = _static_beam(search, beam.sentences // 2, length, steps)
        smaller.compact_from(beam, active)
        beam, rows = smaller, [rows[index] for index in active]
    return results


def _static_beam(search: SearchSettings, sentences: int, source_length: int, steps: int) -> StaticBeam:
    """Return the buffers that such a search has used before, or new ones."""
    cache = search.model.graph_cache
    key = (sentences, source_length, steps, *search[1:])
    if key not in cache:
        if search.model.device.type == "cuda" and not cache:
            cache[POOL] = torch.cuda.graph_pool_handle()  # lives as long as a graph that uses it
        cache[key] = StaticBeam(
            search, sentences=sentences, source_length=source_length, steps=steps, pool=cache.get(POOL)
        )
    beam: StaticBeam = cache[key]
    return beam
