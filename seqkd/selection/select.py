"""Selection: which hypothesis of an n-best list a student trains on (Kim & Rush 2016, sections 3.2 and 3.3)."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import accumulate, chain, pairwise, starmap
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from seqkd.config.machine import Machine
from seqkd.config.schema import SelectSettings
from seqkd.data import bitext, faults, list_origin, nbest, vocab
from seqkd.data.bitext import Pair
from seqkd.evaluation import metrics
from seqkd.selection import sentence_bleu
from seqkd.selection.audit import SelectionStats
from seqkd.utils import pool
from seqkd.utils.cluster import SharedWork
from seqkd.utils.errors import InputError
from seqkd.utils.progress import Progress


class ScoredList(NamedTuple):
    """Scores of the texts of one line, which are in the order of the n-best list."""

    scores: list[float]  # by the metric of the settings, higher is better; an empty text has -inf
    counts: sentence_bleu.Integers  # (texts, 10), those of sentence_bleu.counts

    @property
    def best_rank(self) -> int:
        """The rank of the text with the highest score; of several, the lowest rank."""
        return self.scores.index(max(self.scores))

    def ranking(self, texts: Sequence[str]) -> list[int]:
        """Return the ranks of the different texts, that with the highest score first; equal scores stay in order."""
        first = {text: rank for rank, text in reversed(list(enumerate(texts)))}
        return sorted(first.values(), key=lambda rank: (-self.scores[rank], rank))


def encode(texts: Sequence[str], tokenizer: str) -> sentence_bleu.Words:
    """Return the word ids of texts: each distinct string without spaces is tokenized once, or each distinct text."""
    tokenize = partial(metrics.tokenize, tokenizer=tokenizer)
    if tokenizer == metrics.DEFAULT:
        return sentence_bleu.encode(texts, tokenize)
    spaced = {text: " ".join(tokenize(text)) for text in dict.fromkeys(texts)}
    return sentence_bleu.encode([spaced[text] for text in texts], lambda word: [word])


def score(
    lists: Sequence[Sequence[str]], references: Sequence[str], settings: SelectSettings, *, tokenizer: str
) -> Iterator[ScoredList]:
    """Yield the scores of each list of texts, by settings.metric against its reference."""
    sizes = [len(texts) for texts in lists]
    words = encode([*references, *chain.from_iterable(lists)], tokenizer)
    hypothesis_rows = np.arange(len(lists), len(lists) + sum(sizes), dtype=np.int32)
    reference_rows = np.repeat(np.arange(len(lists), dtype=np.int32), sizes)
    counts = sentence_bleu.counts(words, hypothesis_rows, reference_rows)
    bleu = sentence_bleu.bleu(counts, smoothing=settings.smoothing, value=settings.smoothing_value)
    for texts, reference, (begin, end) in zip(lists, references, pairwise(accumulate(sizes, initial=0)), strict=True):
        if settings.metric == "score":  # the teacher's own: the order of the list
            scores = {text: -float(rank) for rank, text in reversed(list(enumerate(texts)))}
        elif settings.metric == "chrf":
            scores = {text: metrics.sentence_chrf(text, reference) for text in dict.fromkeys(texts)}
        else:
            scores = dict(zip(texts, bleu[begin:end].tolist(), strict=True))
        yield ScoredList([scores[text] if text else -math.inf for text in texts], counts[begin:end])


class Part(NamedTuple):
    """One part of an n-best list, and the pairs of the reference text that it belongs to."""

    path: Path
    pairs: list[Pair]


def parts(folder: Path, pairs: Iterable[Pair], *, lines: int) -> Iterator[Part]:
    """Yield each part of an n-best list with its pairs, holding one part at a time.

    lines: how many pairs there are. Raises InputError where a part is missing or too many.
    """
    return starmap(Part, zip(nbest.parts(folder, lines=lines), nbest.chunks(pairs), strict=True))


def choose_all(
    lists: Path,
    settings: SelectSettings,
    *,
    reference: Path,
    label: str,
    machine: Machine,
    how: Mapping[str, Any],
    monolingual: bool = True,
) -> Iterator[tuple[list[Pair], SelectionStats]]:
    """Yield what `choose` returns of each part of a row's n-best list, with a progress bar.

    lists: the folder of all n-best lists; how: model, tokenizer and script, as `choose` takes them; monolingual:
    whether the list has lines without a target, too.
    """
    lines = bitext.count_pairs(reference, monolingual=monolingual)
    every = parts(lists / settings.nbest, bitext.stream(reference, monolingual=monolingual), lines=lines)
    cluster, work = machine.workers, partial(choose, settings=settings, **how)
    shared = SharedWork(cluster, [how["model"]], own_inputs=_files, describe=_described) if cluster else None
    with Progress(lines, unit="lines", label=f"select {label}") as progress:
        for pairs, stats in pool.map_ordered(work, every, processes=machine.processes, shared=shared):
            yield pairs, stats
            progress.add(stats.ranks.total() + stats.without_target)


def _files(part: Part) -> list[Path]:
    return [path for path in (part.path, list_origin.owners_path(part.path)) if path.exists()]


def _described(part: Part) -> str:
    return f"lines {part.pairs[0].id:,} to {part.pairs[-1].id:,}"


def choose(
    part: Part, *, model: Path, settings: SelectSettings, tokenizer: str, script: str = ""
) -> tuple[list[Pair], SelectionStats]:
    """Return the part's sources with the chosen, detokenized texts as targets, and the counts for the audit.

    Lines without a human target are left out where the metric compares with it, and texts with a fault of
    settings.drop. The audit counts each line's best text, of which settings.times may ask for copies, and for others
    beside it. model: the sentencepiece file; tokenizer: BLEU's; script: of the target language, as
    faults.main_script returns it. Raises InputError where the part does not belong to the pairs.
    """
    stats, chosen = SelectionStats(), list[Pair]()
    lines = [hypotheses for _, hypotheses in nbest.read_part(part.path, part.pairs)]
    owners = list_origin.read_part(part.path, [len(hypotheses) for hypotheses in lines])
    try:
        sources = [pair.source for pair, hypotheses in zip(part.pairs, lines, strict=True) for _ in hypotheses]
        ids = [hypothesis.ids for hypotheses in lines for hypothesis in hypotheses]
        decoded = iter(_vocab(model).decode_all(ids, sources))
    except InputError as error:
        raise InputError(f"{part.path}: {error}") from None
    lists = [[next(decoded) for _ in hypotheses] for hypotheses in lines]
    scored_lists = score(lists, [pair.target for pair in part.pairs], settings, tokenizer=tokenizer)
    for pair, hypotheses, texts, scored, teachers in zip(part.pairs, lines, lists, scored_lists, owners, strict=True):
        if not pair.target and settings.metric != "score":
            stats.without_target += 1
            continue
        rank = scored.best_rank
        places = scored.ranking(texts) if settings.times else [rank]  # the best one first
        for place, count in zip(places, settings.times or [1], strict=False):
            fault = faults.fault(pair.source, texts[place], script=script)
            if place == rank:
                stats.count_choice(fault, teacher=teachers[rank])
            if fault not in (settings.drop or ()):
                chosen += [pair._replace(target=texts[place])] * count
        stats.count_line(hypotheses, texts, rank)
        if not pair.target:
            continue
        tied = {text for text, value in zip(texts, scored.scores, strict=True) if value == scored.scores[rank]}
        stats.ties += len(tied) > 1
        stats.count_ngrams(scored.counts[rank].tolist(), scored.counts[0].tolist())
    return chosen, stats


_vocab = pool.loaded_once(vocab.load)
