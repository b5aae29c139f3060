"""How long a run of these settings takes here, and the disk and memory it needs.

The stages' own code runs a slice of each kind of work, and the time of the whole is extrapolated by tokens.
"""

import io
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import wait
from contextlib import redirect_stderr, suppress
from dataclasses import dataclass, replace
from functools import cache, cached_property, partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import psutil
import torch

from seqkd.config.machine import Machine
from seqkd.config.schema import OWN, NetworkSettings, OptimizerSettings, Params, RowSettings, SelectSettings
from seqkd.data import batches, bitext, nbest, vocab
from seqkd.data.batches import TokenizedCorpus
from seqkd.decoding import translator
from seqkd.evaluation import metrics, significance
from seqkd.models import checkpoint
from seqkd.ops import devices
from seqkd.ops.matmul import Precision
from seqkd.planning import bounds
from seqkd.selection import select
from seqkd.training import run, teacher, trainer
from seqkd.utils import pool
from seqkd.utils.errors import InputError

BATCHES = 4  # of a training slice
PROPORTION = 1.2  # of a slice's time to a smaller one's, over that of their units, above which something is wrong
ENOUGH, LONG = 1.0, 20.0  # seconds: by which a slice outlasts a smaller one; of a slice that no larger one follows
FORWARD = 1 / 3  # of an update's time, for a pass without gradients
SEARCHED = 1.1  # pieces that a search writes, for each of the human target
PREPARED = 30e-6  # seconds for each pair of preprocess and of vocab
LEARNT = 45  # bytes for each piece of the sentences that the vocabulary is learnt from
SCORED = 3e-4  # seconds for each translation of the test set in the stage evidence
BARE, SHORT = 60e6, 2.0  # bytes, and seconds before its work, of a stage without networks
DVC, DRAWING = 0.5, 3.0  # seconds that DVC takes for a stage; of drawing the plots
TINY = NetworkSettings(size="1x8", dropout=0.1)


@dataclass(frozen=True, eq=False)
class Sample:
    """Some pairs of a training text, and what is known of the run that reads it."""

    params: Params
    machine: Machine
    vocab: vocab.Vocab
    pairs: list[bitext.Pair]
    train: int  # pairs of the whole text
    dev: int
    test: int

    @cached_property
    def text(self) -> TokenizedCorpus:
        """Return those of the pairs that are short enough to train on."""
        encoded = [[self.vocab.encode(side, pair.source) for side in pair[1:]] for pair in self.pairs]
        kept = [pair for pair in encoded if all(0 < len(ids) <= self.params.data.max_length for ids in pair)]
        if not kept:
            raise InputError("no pair is left to train on; raise data.max_length in params.yaml or check the corpus.")
        return TokenizedCorpus(*map(list, zip(*kept, strict=True)))

    @cached_property
    def tokens(self) -> float:
        """Return the mean length of a target, EOS included."""
        return self.text.target_tokens / len(self.text)

    def lines(self, *, monolingual: bool) -> int:
        """Return the lines of the whole text, or those of them that have a target."""
        if monolingual:
            return self.train
        return self.train * sum(bool(pair.target) for pair in self.pairs) // len(self.pairs)


class Cost(NamedTuple):
    """What a kind of work takes."""

    fixed: float  # seconds, whatever there is to do
    per_token: float  # seconds
    memory: int  # bytes of all processes at their peak, shared pages counted once


class Stage(NamedTuple):
    """A row of the plan. From the fields with a default follows what it takes elsewhere (`planning/elsewhere.py`)."""

    name: str
    seconds: float
    disk: float  # bytes that stay, DVC's copies included
    memory: float  # bytes of all processes
    start: float = 0.0  # of the seconds, those that no second machine saves
    spreads: bool = False  # whether its lines go to the machines of a cluster
    trained: float = 0.0  # weights times pieces: products of the updates, a pass without gradients as a part of one
    searched: float = 0.0  # weights times pieces of hypotheses
    updates: float = 0.0
    gradient: float = 0.0  # bytes


def stages(sample: Sample) -> Iterator[Stage]:
    """Yield the stages of a run; a kind of work is measured when it is first met."""
    params, optim, beams, pairs = sample.params, sample.params.optim, sample.params.evaluate.beams, sample.train
    text = 2 * pairs * (8 + bounds.PIECE_CHARACTERS * 2 * sample.tokens)  # bytes of a file and of DVC's copy
    learnt = LEARNT * sample.tokens * min(2 * pairs, params.vocab.max_sentences)
    yield Stage("preprocess", SHORT + PREPARED * pairs, text, BARE + bounds.text_bytes(pairs))
    yield Stage("vocab", SHORT + PREPARED * pairs, 0.0, BARE + learnt)
    if params.trains_teacher:
        yield _train(sample, "train@teacher", "teacher", settings=optim.teacher)
    yield _train(sample, "train@baseline", "baseline", settings=optim.student)
    for name, each in params.decode.items():
        if each.beam is None or params.owners(name):  # how fast another's teacher is cannot be measured here
            continue
        search, precision = (sample, f"decode@{name}"), devices.choose_precision(sample.machine, params.precision)
        lines = sample.lines(monolingual=each.monolingual)
        stage = _decode(*search, params.teacher, beams=[each.beam], lines=lines, precision=precision)
        yield stage._replace(disk=bounds.nbest_bytes(lines, sample.tokens, beam=each.beam))
    for name, settings in params.select.items():
        beam, most = params.decode[settings.nbest].beam or 1, min(nbest.LINES_PER_PART, len(sample.pairs))
        cost = _cost(select_slice, sample, most, settings=settings, beam=beam)
        lines = sample.lines(monolingual=params.decode[settings.nbest].monolingual)
        seconds = SHORT + cost.fixed + cost.per_token * lines
        yield Stage(f"select@{name}", seconds, text, cost.memory, start=SHORT + cost.fixed, spreads=True)
    for name in [*params.distill, *params.finetune]:
        yield _row(sample, name)
    twice = optim.retrain.model_copy(update={"epochs": optim.retrain.epochs + optim.finetune.epochs})
    for ratio in params.prune.ratios:
        yield _train(sample, f"prune@{ratio}", params.prune.model, settings=twice)
    models = [*params.networks, *[params.prune.model] * len(params.prune.ratios)]
    for network, count in Counter(map(params.network_of, models)).items():
        stage = _decode(sample, f"evaluate, {count} of {network.described}", network, beams=beams, lines=sample.test)
        several = {name: count * getattr(stage, name) for name in ("seconds", "start", "searched")}
        yield stage._replace(**several)
    scored = SCORED * sample.test * len(models) * len(beams) / sample.machine.processes
    resamples = bounds.FLOAT * 2 * significance.RESAMPLES * sample.test  # bytes
    yield Stage("evidence", 2 * SHORT + scored, 1e6, 6 * BARE + resamples)
    yield Stage("report", SHORT + DRAWING, 4e6, 3 * BARE)
    lines = params.speed.rounds * params.speed.sentences * sample.machine.processes  # all in one process
    networks = map(params.network_of, params.speed.models)
    timed = [_decode(sample, "speed", network, beams=beams, lines=lines) for network in networks]
    seconds = sum(stage.seconds for stage in timed) - (len(timed) - 1) * _start(sample)[0]
    yield timed[0]._replace(seconds=seconds, searched=sum(stage.searched for stage in timed), spreads=False)


def _row(sample: Sample, name: str) -> Stage:
    """Return the stage of a row of distill or finetune."""
    section, optim = ("distill", "student") if name in sample.params.distill else ("finetune", "finetune")
    row: RowSettings = getattr(sample.params, section)[name]
    settings: OptimizerSettings = getattr(sample.params.optim, optim)
    settings = settings.model_copy(update={"epochs": row.epochs or settings.epochs})
    word_kd, copies = row.top_k if row.alpha else None, sample.params.copies(row.train_text)
    own, stage = row.train_text == OWN, f"{section}@{name}"
    training = _train(sample, stage, name, settings=settings, top_k=word_kd, copies=copies, changing=own)
    if not own:
        return training
    greedy = _decode(sample, stage, sample.params.network_of(name), beams=[1], lines=sample.train)
    seconds = training.seconds + settings.epochs * (greedy.seconds - _start(sample)[0] - DVC)
    return training._replace(seconds=seconds, searched=settings.epochs * greedy.searched)


def _train(
    sample: Sample,
    stage: str,
    model: str,
    *,
    settings: OptimizerSettings,
    top_k: int | None = None,
    copies: int = 1,
    changing: bool = False,
) -> Stage:
    """Return the stage of a training.

    top_k: of the teacher's distribution, for word-level KD; None: no teacher; copies: lines of the text for each pair;
    changing: whether the text is another one in each epoch.
    """
    params, tokens = sample.params, copies * sample.train * sample.tokens
    network = params.network_of(model)
    cost = _update(sample, network.member, settings, top_k)
    new = max(0, sample.train - len(sample.pairs)) * sample.machine.processes  # pairs that no slice held
    memory = cost.memory + bounds.text_bytes(new)
    read = network.members * settings.epochs * (tokens + FORWARD * sample.dev * sample.tokens)  # pieces
    seconds, trained = read * cost.per_token, read * weights(network.member, params.vocab.size)
    if top_k is not None and params.trains_teacher:  # how fast another's teacher is cannot be measured here
        size = params.teacher.members * params.teacher.hidden
        stored = (vectors := bounds.FLOAT * tokens * size) <= teacher.MAX_STORE_BYTES and not changing
        memory += vectors * (stored and not top_k)
        passes = 1 if stored or top_k else settings.epochs
        one = _update(sample, params.teacher.member, params.optim.teacher)
        asked = passes * FORWARD * tokens * params.teacher.members  # pieces
        seconds += asked * one.per_token
        trained += asked * weights(params.teacher.member, params.vocab.size)
    size = bounds.FLOAT * bounds.parameter_count(network, params.vocab.size)
    start, batches_read = _start(sample)[1] + DVC + cost.fixed, -(-copies * sample.train // settings.batch_size)
    return Stage(
        stage,
        start + seconds,
        2 * size,
        memory,
        start=start,
        trained=trained,
        updates=network.members * settings.epochs * batches_read,
        gradient=size / network.members,
    )


def weights(network: NetworkSettings, vocab_size: int) -> int:
    """Return how many weights of a network that is no ensemble a piece is multiplied with: all but the embeddings."""
    return bounds.parameter_count(network, vocab_size) - 2 * vocab_size * network.hidden


def _update(sample: Sample, network: NetworkSettings, settings: OptimizerSettings, top_k: int | None = None) -> Cost:
    """Return what a training takes, without the teacher's pass over the text; settings of its pace do not matter."""
    pace = {"learning_rate": 1e-4, "schedule": "constant", "warmup_steps": 0, "epochs": 1, "patience": 0}
    return _cost(train_slice, sample, 1024, network=network, settings=settings.model_copy(update=pace), top_k=top_k)


def _decode(
    sample: Sample,
    stage: str,
    network: NetworkSettings,
    *,
    beams: Sequence[int],
    lines: int,
    precision: Precision = "fp32",
) -> Stage:
    """Return a stage that decodes so many lines with each beam."""
    kind = {"network": network, "precision": precision}
    costs = {beam: _cost(decode_slice, sample, translator.CHUNK_SIZE, beam=beam, **kind) for beam in beams}
    pieces = {beam: lines * beam * SEARCHED * sample.tokens for beam in costs}
    start = _start(sample)[0] + DVC + sum(cost.fixed for cost in costs.values())
    products = network.members * weights(network.member, sample.params.vocab.size) * sum(pieces.values())
    seconds = start + sum(cost.per_token * pieces[beam] for beam, cost in costs.items())
    memory = max(cost.memory for cost in costs.values())
    return Stage(stage, seconds, 0.0, memory, start=start, spreads=True, searched=products)


@cache
def _start(sample: Sample) -> tuple[float, float, int]:
    """Return the seconds until a search and until a training are at work here, and the bytes of all compiled code."""
    held, params = psutil.Process().memory_info().rss, sample.params.model_copy(update={"teacher": TINY})
    alone, seconds = sample.machine.model_copy(update={"processes": 1}), []
    tiny = replace(sample, params=params, machine=alone, pairs=sample.pairs[:100])
    works = [partial(decode_slice, tiny, network=TINY, beam=2, precision=each) for each in ("fp32", "bf16")]
    for work in (*works, partial(train_slice, tiny, network=TINY, settings=params.optim.student, top_k=0)):
        _run(work, 1)  # compiles what is not compiled yet
        with redirect_stderr(io.StringIO()):
            work(1)
        seconds.append(time.process_time())  # since this process started, as a stage does
    return seconds[1], seconds[2], psutil.Process().memory_info().rss - held


@cache
def _cost(work: Callable[..., int], sample: Sample, most: int, **kind: Any) -> Cost:
    """Run larger and larger slices until one takes long enough. work: does so many units and returns their tokens."""
    code = _start(sample)[2] * (translator.process_count(sample.machine) - 1)  # here they share what each one loads
    units, before, last = 1, (0, 0.0, 0), _run(partial(work, sample, **kind), 1)
    while units < most and last[1] < LONG and (units == 1 or last[1] - before[1] < ENOUGH):
        done, units = units, min(most, units * (4 if last[1] < LONG / 8 else 2))
        before, last = last, _run(partial(work, sample, **kind), units)
        if last[1] > PROPORTION * units / done * before[1]:  # another process disturbed it: a slice has fixed costs too
            last = min(last, _run(partial(work, sample, **kind), units), key=lambda found: found[1])
    per_token = max(0.0, last[1] - before[1]) / max(1, last[0] - before[0])
    memory = max(before[2], last[2]) + code * (work is not select_slice)
    return Cost(max(0.0, last[1] - per_token * last[0]), per_token, memory)


def _run(work: Callable[[int], int], units: int) -> tuple[int, float, int]:
    """Return the tokens, seconds and peak memory of a slice that has a process of its own."""
    began, peak = time.perf_counter(), 0
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]  # no child could use the GPU
        return work(units), time.perf_counter() - began, psutil.Process().memory_info().rss
    with redirect_stderr(io.StringIO()), pool.workers(1) as executor:  # hides progress bars
        process = psutil.Process(executor.submit(os.getpid).result())
        answer = executor.submit(work, units)
        while not wait([answer], timeout=0.1).done:
            with suppress(psutil.Error):
                children = [child.memory_full_info().uss for child in process.children(recursive=True)]
                peak = max(peak, process.memory_info().rss + sum(children))
        return answer.result(), time.perf_counter() - began, peak


def train_slice(
    sample: Sample, epochs: int, *, network: NetworkSettings, settings: OptimizerSettings, top_k: int | None
) -> int:
    """Train on some batches, the longest among them, with word-level KD or (None) without; return the target tokens."""
    device = devices.configure(sample.machine, sample.params.precision)
    make = partial(run.init_model, sample.vocab, seed=1, device=device)
    planned = batches.make_batches(sample.text, settings.batch_size)
    rows = [row for batch in _spread(planned[:-1] or planned, BATCHES) for row in batch]
    text = TokenizedCorpus(*([side[row] for row in rows] for side in (sample.text.sources, sample.text.targets)))
    dev, word_kd = TokenizedCorpus(text.sources[:1], text.targets[:1]), dict[str, Any]()
    with TemporaryDirectory() as folder:
        if top_k is not None:
            cache = teacher.TopKCache(top_k, Path(folder, "top_k")) if top_k else None
            word_kd = {"alpha": 0.5, "teacher": make(sample.params.teacher.member).network, "top_k_cache": cache}
        settings = settings.model_copy(update={"epochs": epochs})
        job = trainer.TrainingJob(text, dev, settings, seed=1, resume=Path(folder, "state"), **word_kd)
        trainer.train(make(network).network, job, sample.machine)
    return epochs * text.target_tokens


def decode_slice(sample: Sample, lines: int, *, network: NetworkSettings, beam: int, precision: Precision) -> int:
    """Decode so many lines in each process; return the pieces written: random networks seldom end a hypothesis."""
    processes = translator.process_count(sample.machine)
    sources = [pair.source for pair in _spread(sample.pairs, lines * processes)]
    with TemporaryDirectory() as name:
        model = run.init_model(sample.vocab, network, seed=1, device=torch.device("cpu"))
        checkpoint.save(Path(name, "model"), model, card="")
        job = translator.DecodingJob(Path(name, "model"), sample.machine, beam, beam, precision=precision)
        jobs = [job._replace(sources=sources[rank::processes]) for rank in range(processes)]
        parts = pool.map_ordered(translator.run, jobs, processes=processes)
        return sum(len(hypothesis.ids) + 1 for part in parts for hypotheses in part for hypothesis in hypotheses)


def select_slice(sample: Sample, lines: int, *, settings: SelectSettings, beam: int) -> int:
    """Select from lists of so many lines in each process; return the lines. Hypotheses: the target, turned round."""
    processes, pairs = sample.machine.processes, _spread(sample.pairs, lines)
    targets = [sample.vocab.encode(pair.target, pair.source) or [vocab.UNK] for pair in pairs]
    turned = [[(*ids[turn % len(ids) :], *ids[: turn % len(ids)]) for turn in range(beam)] for ids in targets]
    lists = [[nbest.Hypothesis(ids, -1.0, True) for ids in texts] for texts in turned]
    with TemporaryDirectory() as name:
        model = Path(name, "joint.model")
        model.write_bytes(sample.vocab.model)
        part = select.Part(nbest.write_part(Path(name), 0, zip(pairs, lists, strict=True)), pairs)
        tokenizer = metrics.tokenizer_name(sample.params.data.target)
        work = partial(select.choose, model=model, settings=settings, tokenizer=tokenizer)
        return sum(len(texts) for texts, _ in pool.map_ordered(work, [part] * processes, processes=processes))


def _spread(items: Sequence[Any], count: int) -> list[Any]:
    """Return so many of the items, evenly spaced, the last one among them."""
    return [items[len(items) * (number + 1) // count - 1] for number in range(count)]
