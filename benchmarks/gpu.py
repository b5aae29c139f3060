"""2x500 on a GPU beside the same network as most would write it in torch (plain.py), on the same GPU."""

import time
from collections.abc import Callable
from functools import partial
from statistics import mean

import torch

from benchmarks import plain
from benchmarks.engine import PRECISIONS, SIZE
from benchmarks.material import BATCH, Material
from benchmarks.rows import Row, alternate
from benchmarks.settings import Settings
from seqkd.config.machine import Machine
from seqkd.data import batches
from seqkd.data.batches import TokenizedCorpus
from seqkd.data.nbest import Hypothesis
from seqkd.data.words import count_words
from seqkd.decoding import beam_search
from seqkd.models.lstm import LSTMNetwork
from seqkd.ops import devices
from seqkd.ops.matmul import Precision
from seqkd.training import trainer
from seqkd.training.trainer import TrainingJob
from seqkd.utils.errors import InputError

GPU = Machine(processes=1, device="cuda")
PEER = "plain torch, fp32"
BEAMS = {1: 1000, 5: 1000, 35: 250}  # beam: sentences
EPOCHS = 9


def run(settings: Settings) -> list[Row]:
    if not torch.cuda.is_available():
        raise InputError("torch finds no GPU here; there is nothing to measure.")
    settings.unpin()
    material = settings.material()
    network, rows = training(settings, material)
    return rows + decoding(settings, material, network)


def training(settings: Settings, material: Material) -> tuple[LSTMNetwork, list[Row]]:
    """Of whole epochs after the first, in which shapes of batches are met and recorded; the last network trained."""
    text, peer = material.some(5 * settings.updates), plain.Training(material.network(SIZE), 0.001, "cuda")
    words, trained = text.count_target_tokens(range(len(text.targets))), list[LSTMNetwork]()
    devices.configure(GPU)

    def theirs() -> float:
        some, began = material.some(2 * settings.updates), time.perf_counter()
        for rows in batches.make_batches(some, BATCH):
            peer.update([some.sources[row] for row in rows], [some.targets[row] for row in rows])
        return some.count_target_tokens(range(len(some.targets))) / (time.perf_counter() - began)

    def mine(precision: Precision) -> float:
        spent = []
        for epochs in (1, EPOCHS):
            network = material.network(SIZE).to(devices.configure(GPU, precision))
            optim = material.optim(SIZE).model_copy(update={"epochs": epochs})
            dev = TokenizedCorpus(text.sources[:100], text.targets[:100])
            began = time.perf_counter()
            trainer.train(network, TrainingJob(text, dev, optim, seed=1, label=f"{precision}, {epochs}"), GPU)
            spent.append(time.perf_counter() - began)
        trained.append(network)
        print(f"{precision}: {spent[0]:.1f} s for one epoch, {spent[1]:.1f} s for {EPOCHS}", flush=True)
        return words * (EPOCHS - 1) / (spent[1] - spent[0])

    theirs()
    variants: dict[str, Callable[[], float]] = {PEER: theirs}
    found = alternate(variants | {it: partial(mine, it) for it in PRECISIONS}, settings.rounds - 1)
    note = f"batch {BATCH}; {torch.cuda.get_device_name()}, torch {torch.__version__}"
    row = partial(Row, unit="target words/s", peer=PEER, theirs=found[PEER], note=note)
    return trained[-1], [row(f"{SIZE} training, {it}", ours=found[it]) for it in PRECISIONS]


def decoding(settings: Settings, material: Material, network: LSTMNetwork) -> list[Row]:
    twin = plain.Plain(network.cpu()).to("cuda")
    network.to("cuda")
    return [row for beam in BEAMS for row in _beam(settings, material, network, twin, beam)]


def _beam(settings: Settings, material: Material, network: LSTMNetwork, twin: plain.Plain, beam: int) -> list[Row]:
    sources = sorted(material.sources[: BEAMS[beam]], key=count_words)
    coded = [material.vocab.encode(source) for source in sources]
    words = len(sources) if beam > 5 else sum(map(count_words, sources))
    ours: dict[str, list[list[Hypothesis]]] = {}
    answers: list[list[int]] = []

    def mine(precision: Precision) -> float:
        devices.configure(GPU, precision)
        with network.inference():
            for _ in range(2):  # the first time records
                began = time.perf_counter()
                ours[precision] = beam_search.decode(network, coded, beam=beam, nbest=beam if beam > 5 else 1)
                spent = time.perf_counter() - began
        return words / spent

    def theirs() -> float:
        began = time.perf_counter()
        answers[:] = plain.greedy(twin, coded, batch_size=4 * BATCH)
        return words / (time.perf_counter() - began)

    variants: dict[str, Callable[[], float]] = {it: partial(mine, it) for it in PRECISIONS}
    found = alternate(variants | ({PEER: theirs} if beam == 1 else {}), settings.rounds)
    rows = []
    for precision in PRECISIONS:
        length = mean(len(hypothesis.ids) for hypotheses in ours[precision] for hypothesis in hypotheses)
        note = f"{length:.1f} pieces each"
        if beam == 1:
            same = sum(list(one[0].ids) == other for one, other in zip(ours[precision], answers, strict=True))
            note += f"; {same} of {len(sources)} as the peer's"
        work = {1: "greedy", 5: "beam 5", 35: "35-best"}[beam]
        unit = "sentences/s" if beam > 5 else "source words/s"
        row = partial(Row, f"{SIZE} {work}, {precision}", unit, found[precision], note=note)
        rows.append(row(PEER, found[PEER]) if PEER in found else row())
    return rows
