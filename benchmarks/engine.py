"""2x500 beside OpenNMT-py with the same weights, and n-best lists beside CTranslate2's int8 transformer; one core.

Seconds are the processor's, of one thread on either side, so that what else the machine does counts little.
"""

import time
from collections.abc import Callable
from functools import partial
from statistics import mean

from benchmarks import peers, roofline
from benchmarks.material import ONE, Material
from benchmarks.peers import Peer
from benchmarks.roofline import Roofline
from benchmarks.rows import Row, alternate
from benchmarks.settings import Settings
from seqkd.config.schema import OptimizerSettings
from seqkd.data.batches import TokenizedCorpus
from seqkd.data.nbest import Hypothesis
from seqkd.data.words import count_words
from seqkd.decoding import beam_search
from seqkd.models.lstm import LSTMNetwork
from seqkd.ops import devices
from seqkd.ops.matmul import Precision
from seqkd.training import trainer
from seqkd.training.trainer import TrainingJob

SIZE = "2x500"
PRECISIONS: tuple[Precision, ...] = ("fp32", "bf16")
AIMS = {"training": (2.2, 3.2), 1: (3.0, 5.0), 5: (2.5, 4.0), 35: (2.5, 4.0)}
BEAMS = {1: (1000, 64), 5: (300, 32), 35: (64, 8)}  # beam: sentences, and OpenNMT-py's batch, which suits it best
TRANSFORMER = {35: 16}  # beam: CTranslate2's batch


def run(settings: Settings) -> list[Row]:
    material, roof = settings.material(), roofline.measure()
    print(roof)
    rows = training(settings, material, roof)
    return rows + decoding(settings, material, roof)


def updates(
    network: LSTMNetwork,
    texts: tuple[TokenizedCorpus, TokenizedCorpus],
    optim: OptimizerSettings,
    *,
    precision: Precision,
    processes: int = 1,
    clock: Callable[[], float] = time.process_time,
) -> float:
    """Target words a second of the trainer, as the stages call it: an epoch of a long text less that of a short one."""
    words, spent = [text.count_target_tokens(range(len(text.targets))) for text in texts], []
    for text in texts:
        devices.configure(ONE, precision)
        lesson = TrainingJob(
            text, TokenizedCorpus(text.sources[:1], text.targets[:1]), optim, seed=1, label=f"{precision}, {processes}"
        )
        began = clock()
        trainer.train(network, lesson, ONE.model_copy(update={"processes": processes}))
        spent.append(clock() - began)
    return (words[0] - words[1]) / (spent[0] - spent[1])


def training(settings: Settings, material: Material, roof: Roofline) -> list[Row]:
    network, optim = material.network(SIZE), material.optim(SIZE).model_copy(update={"shards": 1})  # one core
    long, short = material.some(settings.updates + 2), material.some(2)
    for precision in PRECISIONS:
        updates(network, (short, material.some(1)), optim, precision=precision)  # compiles
    with peers.onmt(material, network, settings.keep, "train") as peer:

        def theirs() -> float:
            words, spent = peer.ask(settings.updates)
            return float(words / spent)

        variants: dict[str, Callable[[], float]] = {"OpenNMT-py": theirs}
        for precision in PRECISIONS:
            variants[precision] = partial(updates, network, (long, short), optim, precision=precision)
        found = alternate(variants, settings.rounds)
    source, target = mean(map(len, long.sources)), mean(len(ids) + 1 for ids in long.targets)
    limits = [
        roof.training(network.shape, it, source=source, target=target, batch_size=optim.batch_size) for it in PRECISIONS
    ]
    return [
        Row(
            f"{SIZE} training, {precision}",
            "target words/s",
            found[precision],
            "OpenNMT-py, fp32",
            found["OpenNMT-py"],
            aim=aim,
            roofline=found[precision] / limit,
            note=f"batch {optim.batch_size}, {target:.1f} words a target, end included",
        )
        for precision, aim, limit in zip(PRECISIONS, AIMS["training"], limits, strict=True)
    ]


def translated(
    network: LSTMNetwork, material: Material, sources: list[str], *, beam: int, precision: Precision
) -> tuple[float, list[list[Hypothesis]]]:
    """Seconds from text to text, of a model that is loaded, and the hypotheses."""
    devices.configure(ONE, precision)
    with network.inference():
        began = time.process_time()
        coded = [material.vocab.encode(source) for source in sources]
        found = beam_search.decode(network, coded, beam=beam, nbest=beam if beam > 5 else 1)
        every = [(each.ids, source) for some, source in zip(found, sources, strict=True) for each in some]
        material.vocab.decode_all([ids for ids, _ in every], [source for _, source in every])
        return time.process_time() - began, found


def decoding(settings: Settings, material: Material, roof: Roofline) -> list[Row]:
    network = material.trained(SIZE)
    rows = []
    with (
        peers.onmt(material, network, settings.keep, "translate") as onmt,
        peers.ctranslate2(material, settings.keep) as transformer,
    ):
        for beam in BEAMS:
            rows += _beam(settings, material, roof, network, onmt, transformer, beam)
    return rows


def _beam(  # noqa: PLR0917 - what decoding has at hand
    settings: Settings,
    material: Material,
    roof: Roofline,
    network: LSTMNetwork,
    onmt: Peer,
    transformer: Peer,
    beam: int,
) -> list[Row]:
    count, batch_size = BEAMS[beam]
    sources = sorted(material.sources[: count if settings.updates > 10 else count // 4], key=count_words)
    coded = [material.vocab.encode(source) for source in sources]
    named, nbest = [peers.pieces(ids) for ids in coded], beam if beam > 5 else 1
    words = len(sources) if beam > 5 else sum(map(count_words, sources))
    ours: dict[str, list[list[Hypothesis]]] = {}
    answers: list[list[str]] = []

    def mine(precision: Precision) -> float:
        spent, ours[precision] = translated(network, material, sources, beam=beam, precision=precision)
        return words / spent

    def theirs() -> float:
        spent, answers[:] = onmt.ask([beam, nbest, batch_size, named])
        return float(words / spent)

    variants: dict[str, Callable[[], float]] = {"OpenNMT-py": theirs}
    variants |= {precision: partial(mine, precision) for precision in PRECISIONS}
    onmt.ask([beam, nbest, batch_size, named[:4]])
    for precision in PRECISIONS:
        translated(network, material, sources[::8], beam=beam, precision=precision)
    mine("fp32")
    length = _length(ours["fp32"])
    if beam in TRANSFORMER:

        def quantised() -> float:
            spent, _ = transformer.ask(["int8", beam, nbest, TRANSFORMER[beam], round(length), named])
            return float(words / spent)

        quantised()
        variants["CTranslate2"] = quantised
    found = alternate(variants, settings.rounds)
    same = sum(_named(mine[0]) == theirs[0] for mine, theirs in zip(ours["fp32"], answers, strict=True))
    peer_length = mean(len(text.split()) for texts in answers for text in texts)
    note = f"{length:.1f} pieces each, theirs {peer_length:.1f}; {same} of {len(sources)} best ones equal in fp32"
    unit = "sentences/s" if beam > 5 else "source words/s"
    work = {1: "greedy", 5: "beam 5", 35: "35-best"}[beam]
    rows = []
    for precision, aim in zip(PRECISIONS, AIMS[beam], strict=True):
        long, source = _length(ours[precision]) + 1, mean(map(len, coded))
        limit = roof.decoding(network.shape, precision, source=source, target=long, beam=beam) * words / len(sources)
        row = partial(Row, f"{SIZE} {work}, {precision}", unit, found[precision], roofline=found[precision] / limit)
        rows.append(row("OpenNMT-py, fp32", found["OpenNMT-py"], aim=aim, note=note))
        if "CTranslate2" in found and precision == "bf16":
            told = f"transformer 3+3x512, held to {round(length)} pieces"
            rows.append(row("CTranslate2, int8", found["CTranslate2"], aim=1.0, note=told))
    return rows


def _length(found: list[list[Hypothesis]]) -> float:
    return mean(len(hypothesis.ids) for hypotheses in found for hypothesis in hypotheses)


def _named(hypothesis: Hypothesis) -> str:
    return peers.pieces(list(hypothesis.ids))
