"""What a run needs of memory and disk, from counts alone, and the refusal of one that cannot fit.

Every size is in bytes. L layers of H hidden units, V pieces, P parameters. The factors are counts of what the code
keeps at its peak, with what the allocator adds to them; tests compare them with what processes are seen to take.
"""

import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Protocol, Self

import psutil

from seqkd.config.schema import Machine, OptimizerSettings
from seqkd.data.bitext import Pair
from seqkd.utils.errors import InputError

FLOAT = 4
COPIES = 2  # of an output: in the workspace, and in DVC's cache
LIST_COPIES = COPIES + 1  # of an n-best list, which is kept by line too
PAIR, PIECE = 550, 36  # a numbered pair as Python holds it, and each of its pieces beside it: a number, its text
CHARACTERS = 4.2  # of a piece, in bytes
NORMALISER = 240_000  # of a sentencepiece model beside its pieces, in bytes
HYPOTHESIS, WORD = 400, 80  # the same of a hypothesis
PACKED_HYPOTHESIS, PACKED_WORD = 2.0, 0.95  # in a part of an n-best list, compressed
STARTED = 110 << 20  # of a training process beside its numbers: 60 where its code is compiled, 210 where it compiles it
SEARCHING = 95 << 20  # the same of a search: 60, or 137
BARE = 45 << 20  # of a process without networks
SELECTING = 200 << 20  # of one that chooses hypotheses, with its compiled loops and the sentences it remembers
ROWS = 1500  # sentences x beam of a batch of the search
PIECES = 10  # of its source for each of ROWS, at most
NEAR = 96  # rows of a search whose logits are held at once
LINES = 1000  # of a text in one part of an n-best list
STORE = 4 << 30  # of the teacher's vectors at most; beyond, it reads each batch anew
FEWEST = 8  # sentences of a batch that keep one process busy
SHORTER = 0.6  # a group of sentences of a search beside the longest one
SPARE = 1.45  # what the allocator takes beside what is asked of it


class Network(Protocol):
    """A section of params.yaml, or the shape of a network that is there."""

    @property
    def layers(self) -> int: ...

    @property
    def hidden(self) -> int: ...


@dataclass(frozen=True)
class CorpusStats:
    """How much text there is: pairs, and pieces a sentence, its marks not counted."""

    pairs: int
    source: float  # pieces on average
    target: float
    longest: int  # of either side

    @classmethod
    def of(cls, sources: Sequence[Sequence[int]], targets: Sequence[Sequence[int]]) -> Self:
        lengths = [len(ids) for ids in sources], [len(ids) for ids in targets]
        source, target = (sum(side) / max(1, len(side)) for side in lengths)
        return cls(len(sources), source, target, max(chain(*lengths), default=0))

    @classmethod
    def guessed(cls, pairs: Iterable[Pair]) -> Self:
        """From characters alone."""
        count = source = target = longest = 0
        for count, pair in enumerate(pairs, start=1):  # noqa: B007 - how many there are
            lengths = len(pair.source), len(pair.target)
            source, target, longest = source + lengths[0], target + lengths[1], max(longest, *lengths)
        whole = CHARACTERS * max(1, count)
        return cls(count, source / whole, target / whole, round(longest / CHARACTERS))

    @property
    def bytes(self) -> float:
        """In memory, while a stage reads it."""
        return self.pairs * (PAIR + PIECE * (self.source + self.target))


def parameters(network: Network, vocab: int) -> int:
    """P: two embeddings and the output layer; encoder and decoder, each with its attention's and gates' matrices."""
    hidden, gates = network.hidden, 4 * network.hidden
    encoder = network.layers * (2 * gates * hidden + gates)
    decoder = network.layers * (2 * gates * hidden + gates) + gates * hidden
    return 3 * vocab * hidden + vocab + encoder + decoder + 3 * hidden * hidden


def processes(settings: OptimizerSettings, machine: Machine) -> int:
    """That share a training."""
    return max(1, min(machine.processes, settings.shards, settings.batch_size // FEWEST))


def vectors(teacher: Network, text: CorpusStats) -> float:
    """From which a teacher's distributions over a text are made: one of H numbers for each word."""
    return text.pairs * (text.target + 1) * teacher.hidden * FLOAT


def stored(teacher: Network, text: CorpusStats) -> bool:
    """Whether they are made once; if not, anew for each update."""
    return vectors(teacher, text) <= STORE


def training(
    network: Network,
    settings: OptimizerSettings,
    text: CorpusStats,
    *,
    vocab: int,
    processes: int,
    teacher: Network | None = None,
) -> int:
    """The peak memory of a training beside its interpreter; teacher: whose distribution the loss needs."""
    size = FLOAT * parameters(network, vocab)
    moments = 2 if settings.optimizer == "adam" else 0
    shared = size * (2 + moments)  # the weights, the gradient's sum, the optimiser's moments
    words = -(-settings.batch_size // processes) * (text.longest + 1)
    inner = (28 * network.layers + 16) * network.hidden  # numbers a word that both passes keep: gates, cells, inputs
    outer = 1.25 * vocab  # logits, which become their gradient, and what their product needs
    store = 0.0
    if teacher is not None:
        outer += 1.25 * vocab
        store = FLOAT * parameters(teacher, vocab)
        store += vectors(teacher, text) if stored(teacher, text) else 0
    own = size * 3.5 + SPARE * FLOAT * words * (inner + outer)  # two gradients, the best weights; the largest batch
    return round(shared + store + processes * (own + text.bytes + STARTED))


def searching(network: Network, text: CorpusStats, *, vocab: int, beam: int, nbest: int, processes: int) -> int:
    """The peak memory of a beam search beside its interpreter and the text."""
    given = min(LINES, -(-text.pairs // processes))
    sentences = min(max(1, ROWS // beam), given)
    rows, steps = sentences * beam, 2 * text.longest + 10
    read = max(given % sentences or sentences, SHORTER * sentences) * text.longest  # the longest come last
    read = min(read, max(ROWS * PIECES, text.longest))
    size = FLOAT * parameters(network, vocab)
    panels = size - 2 * FLOAT * vocab * network.hidden  # the weights once more, in the order in which they are read
    table = FLOAT * 4 * network.hidden * vocab  # every word's share of the decoder's gates
    state = FLOAT * rows * network.hidden * (4 * network.layers + 2)  # before a step and after it
    memory = 2 * FLOAT * read * network.hidden  # the states and keys of the encoder
    logits, history = FLOAT * min(rows, NEAR) * vocab, 2 * FLOAT * rows * steps
    lists = 2 * min(LINES, text.pairs) * nbest * (HYPOTHESIS + WORD * text.target)
    own = size + panels + table + SPARE * (state + memory + logits + history) + lists
    return round(processes * (own + SEARCHING))


def text(extent: CorpusStats) -> int:
    """A file of pairs."""
    return round(extent.pairs * (8 + CHARACTERS * (extent.source + extent.target)))


def model(network: Network, vocab: int, *, pruned: float = 0.0) -> int:
    """A model's folder: its weights, where some are pruned with a bit for each, and the vocabulary."""
    places = 1 / 8 if pruned else 0.0
    return round(parameters(network, vocab) * (FLOAT * (1 - pruned) + places) + NORMALISER + 18 * vocab)


def state(network: Network, settings: OptimizerSettings, vocab: int) -> int:
    """What an interrupted training is taken up from, twice: the weights, the best ones, the optimiser's moments."""
    kept = 1 + 2 * (settings.optimizer == "adam") + (settings.keep_checkpoint == "best")
    return 2 * FLOAT * parameters(network, vocab) * kept


def lists(text: CorpusStats, *, beam: int) -> int:
    """An n-best list's folder."""
    return round(text.pairs * beam * (PACKED_HYPOTHESIS + PACKED_WORD * text.target))


def shown(size: float) -> str:
    """12.3 GB"""
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if size < 999.5 or unit == "TB":
            return f"{size:.0f} {unit}" if size >= 99.5 or unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    raise AssertionError


@dataclass(frozen=True)
class ResourceEstimate:
    """What a piece of work takes, and what its user can do where there is less."""

    work: str  # in words, such as "decode k35"
    memory: int
    disk: Mapping[Path, int]  # under each folder
    lower: str  # the settings that lower the need


def weights(work: str, network: Network, vocab: int) -> ResourceEstimate:
    """Of a network's numbers alone."""
    return ResourceEstimate(work, FLOAT * parameters(network, vocab), {}, "its size in params.yaml")


def course(
    work: str,
    network: Network,
    settings: OptimizerSettings,
    text: CorpusStats,
    *,
    vocab: int,
    processes: int,
    teacher: Network | None,
    keeping: Path,
) -> ResourceEstimate:
    """Of a training whose text is in memory already and whose state is kept in a folder. processes: 0 for a GPU's."""
    memory = 0
    if processes:
        memory = training(network, settings, text, vocab=vocab, processes=processes, teacher=teacher) - round(
            text.bytes
        )
    lower = "processes in machine.yaml, or a size, batch or data.max_length in params.yaml"
    return ResourceEstimate(work, memory, {keeping: state(network, settings, vocab) + model(network, vocab)}, lower)


def decoding(
    work: str,
    network: Network,
    pairs: Iterable[Pair],
    *,
    vocab: int,
    beam: int,
    processes: int,
    left: int,
    keeping: Path,
) -> ResourceEstimate:
    """Of an n-best list of which so many lines are left to make, kept in a folder."""
    text = CorpusStats.guessed(pairs)
    memory = 0
    if processes:
        memory = searching(network, text, vocab=vocab, beam=beam, nbest=beam, processes=processes)
    written = LIST_COPIES * lists(replace(text, pairs=left), beam=beam)
    return ResourceEstimate(work, memory, {keeping: written}, "processes in machine.yaml, or the beam in params.yaml")


def require(need: ResourceEstimate, *, memory: int | None = None, disk: int | None = None) -> None:
    """Raises InputError where need cannot fit. memory, disk: what is free; None: what this machine says."""
    free = free_memory() if memory is None else memory
    if need.memory > free:
        raise InputError(
            f"{need.work} needs about {shown(need.memory)} of memory, and {shown(free)} is free; lower {need.lower}."
        )
    for folder, size in _by_disk(need.disk):
        room = free_disk(folder) if disk is None else disk
        if size > room:
            raise InputError(
                f"{need.work} needs about {shown(size)} on the disk of {folder}, where {shown(room)} is free;"
                f" make room there, or lower {need.lower}."
            )


def _by_disk(sizes: Mapping[Path, int]) -> Iterable[tuple[Path, int]]:
    """One folder of each disk and the whole of what is written there."""
    whole: dict[int, tuple[Path, int]] = {}
    for folder, size in sizes.items():
        device = _existing(folder).stat().st_dev
        first, before = whole.get(device, (folder, 0))
        whole[device] = first, before + size
    return whole.values()


def _existing(folder: Path) -> Path:
    folder = folder.absolute()
    return next(path for path in (folder, *folder.parents) if path.exists())


def free_disk(folder: Path) -> int:
    """Under a folder, which need not exist yet."""
    return shutil.disk_usage(_existing(folder)).free


def held() -> int:
    """What this process has in memory."""
    return int(psutil.Process().memory_info().rss)


def free_memory() -> int:
    """What this process and those it starts may still take: the least of the machine's, its group's and its own."""
    return min([int(psutil.virtual_memory().available), *group_rooms(), *_own_rooms()])


def group_rooms(root: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")) -> list[int]:
    """What each control group above this process still allows; files kept in memory count as free."""
    try:
        named = [line.split(":", 2) for line in own.read_text(encoding="utf-8").splitlines()]
    except OSError:
        return []
    rooms: list[int | None] = []
    for _, controllers, path in named:
        if controllers == "":
            top, names = root, ("memory.max", "memory.current", "inactive_file")
        elif controllers == "memory":
            top, names = root / "memory", ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        else:
            continue
        group = top / path.lstrip("/")
        rooms += [_group_room(folder, *names) for folder in (group, *group.parents) if folder.is_relative_to(top)]
    return [room for room in rooms if room is not None]


def _group_room(folder: Path, limit: str, usage: str, cached: str) -> int | None:
    try:
        most, taken = (folder / limit).read_text().strip(), int((folder / usage).read_text())
        kept = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
        return None if most == "max" else max(0, int(most) - taken + int(kept.get(cached, 0)))
    except (OSError, ValueError):
        return None


def _own_rooms() -> list[int]:
    """What the limits of this process (ulimit -v, -d) still allow."""
    if os.name != "posix":
        return []
    import resource

    taken = psutil.Process().memory_info()
    pairs = ((resource.RLIMIT_AS, taken.vms), (resource.RLIMIT_DATA, getattr(taken, "data", 0)))
    limits = [(resource.getrlimit(kind)[0], used) for kind, used in pairs]
    return [max(0, most - used) for most, used in limits if most != resource.RLIM_INFINITY]
