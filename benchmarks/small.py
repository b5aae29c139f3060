"""2x100 beside the same network as most would write it in torch (plain.py); one core."""

import time
from collections.abc import Callable
from functools import partial
from statistics import mean

from benchmarks import plain, roofline
from benchmarks.engine import PRECISIONS, translated, updates
from benchmarks.material import BATCH, ONE, Material
from benchmarks.roofline import Roofline
from benchmarks.rows import Row, alternate
from benchmarks.settings import Settings
from seqkd.data import batches
from seqkd.data.batches import TokenizedCorpus
from seqkd.data.nbest import Hypothesis
from seqkd.data.words import count_words
from seqkd.ops import devices
from seqkd.ops.matmul import Precision

SIZE, PEER = "2x100", "plain torch, fp32"
TRAINING, GREEDY = (1.5, 2.0), (1.3, 1.5)


def run(settings: Settings) -> list[Row]:
    material, roof = settings.material(), roofline.measure()
    return training(settings, material, roof) + greedy(settings, material, roof)


def training(settings: Settings, material: Material, roof: Roofline) -> list[Row]:
    network, optim = material.network(SIZE), material.optim(SIZE).model_copy(update={"shards": 1})  # one core
    long, short = material.some(4 * settings.updates + 8), material.some(8)
    optimizer = plain.Training(material.network(SIZE), optim.learning_rate)

    def theirs(text: TokenizedCorpus) -> float:
        devices.configure(ONE, "fp32")
        began = time.process_time()
        for rows in batches.make_batches(text, BATCH):
            optimizer.update([text.sources[row] for row in rows], [text.targets[row] for row in rows])
        return text.count_target_tokens(range(len(text.targets))) / (time.process_time() - began)

    theirs(short)
    variants: dict[str, Callable[[], float]] = {PEER: partial(theirs, long)}
    variants |= {it: partial(updates, network, (long, short), optim, precision=it) for it in PRECISIONS}
    for precision in PRECISIONS:
        variants[precision]()
    found = alternate(variants, settings.rounds)
    source, target = mean(map(len, long.sources)), mean(len(ids) + 1 for ids in long.targets)
    rows = []
    for precision, aim in zip(PRECISIONS, TRAINING, strict=True):
        limit = roof.training(network.shape, precision, source=source, target=target, batch_size=BATCH)
        row = partial(Row, f"{SIZE} training, {precision}", "target words/s", found[precision], PEER, found[PEER])
        rows.append(row(aim=aim, roofline=found[precision] / limit, note=f"batch {BATCH}"))
    return rows


def greedy(settings: Settings, material: Material, roof: Roofline) -> list[Row]:
    network = material.trained(SIZE)
    twin = plain.Plain(network)
    sources = sorted(material.sources, key=count_words)
    coded = [material.vocab.encode(source) for source in sources]
    words = sum(map(count_words, sources))
    ours: dict[str, list[list[Hypothesis]]] = {}
    answers: list[list[int]] = []

    def mine(precision: Precision) -> float:
        spent, ours[precision] = translated(network, material, sources, beam=1, precision=precision)
        return words / spent

    def theirs() -> float:
        devices.configure(ONE, "fp32")
        began = time.process_time()
        answers[:] = plain.greedy(twin, [material.vocab.encode(source) for source in sources], batch_size=BATCH)
        material.vocab.decode_all(answers, sources)
        return words / (time.process_time() - began)

    variants: dict[str, Callable[[], float]] = {PEER: theirs}
    variants |= {precision: partial(mine, precision) for precision in PRECISIONS}
    for measure in variants.values():
        measure()
    found = alternate(variants, settings.rounds)
    same = sum(list(mine[0].ids) == theirs for mine, theirs in zip(ours["fp32"], answers, strict=True))
    long, source = mean(len(mine[0].ids) for mine in ours["fp32"]), mean(map(len, coded))
    note = f"{long:.1f} pieces a hypothesis; {same} of {len(sources)} equal in fp32"
    rows = []
    for precision, aim in zip(PRECISIONS, GREEDY, strict=True):
        limit = roof.decoding(network.shape, precision, source=source, target=long + 1, beam=1) * words / len(sources)
        row = partial(Row, f"{SIZE} greedy, {precision}", "source words/s", found[precision], PEER, found[PEER])
        rows.append(row(aim=aim, roofline=found[precision] / limit, note=note))
    return rows
