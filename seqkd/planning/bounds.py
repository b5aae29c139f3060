"""Upper bounds of the memory and disk that work takes, and the refusal of work that cannot fit.

All sizes are in bytes. The factors count what the code holds at its peak; tests compare them with real processes.
"""

import resource
import shutil
from collections.abc import Iterable
from pathlib import Path

import psutil
import torch

from seqkd.config.machine import Machine
from seqkd.config.schema import NetworkSettings
from seqkd.data import batches
from seqkd.data.batches import MAX_BATCH_PIECES, MAX_LINE_PIECES, TokenizedCorpus
from seqkd.data.nbest import LINES_PER_PART
from seqkd.decoding import beam_search, translator
from seqkd.decoding.corpus_decoder import CHUNK_SIZE
from seqkd.decoding.translator import DecodingJob
from seqkd.models import ensemble, perplexity
from seqkd.models.interface import Network, NetworkShape
from seqkd.ops import matmul
from seqkd.ops.cpu.gemm import BLOCK_ROWS
from seqkd.training import teacher
from seqkd.training.teacher import MAX_STORE_BYTES
from seqkd.training.trainer import MIN_SHARD_ROWS, TrainingJob
from seqkd.utils.errors import InputError

FLOAT = 4
PROCESS = 110 << 20  # of a process that computes, beside what is counted: its compiled code, and compiling it
HYPOTHESIS, WORD = 400, 80  # of a hypothesis as Python holds it, and of each of its pieces
ALLOCATOR = 1.45  # bytes that the allocator takes for each byte of tensors that come and go
CGROUP_FILES = {  # by their controllers: of the limit and the usage; what memory.stat calls cached files
    "": ("memory.max", "memory.current", "inactive_file"),
    "memory": ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
}
PIECE_CHARACTERS = 4.2  # in a piece, about
PIECE_NUMBERS = 50  # that a piece of a line takes in lists and in tensors of ids


def require_network(name: str, settings: NetworkSettings, vocab_size: int) -> None:
    """Raise InputError where the weights of a network alone do not fit in memory."""
    size = FLOAT * parameter_count(settings, vocab_size)
    require(f"{name}: a network of {settings.described}", size, lower="its size in params.yaml")


def require_training(job: TrainingJob, network: Network, machine: Machine) -> None:
    """Raise InputError where a training, whose text is read already, does not fit."""
    settings, shape, weights = job.settings, network.shape, FLOAT * sum(map(torch.numel, network.parameters()))
    processes = max(1, min(machine.processes, settings.shards, settings.batch_size // MIN_SHARD_ROWS))
    longest = 1 + max(int(side.lengths().max()) for side in (job.text.sources, job.text.targets))  # pieces
    # of a process's part of the largest batch
    tokens = min(-(-settings.batch_size // processes) * longest, MAX_BATCH_PIECES // processes + longest)
    numbers = (28 * shape.layers + 16) * shape.hidden + 1.25 * shape.vocab  # of a token: gates, cells, inputs; logits
    moments = 2 * (settings.optimizer == "adam")
    shared, without_gradient = (2 + moments) * weights, perplexity_numbers(network, job.dev)
    if job.teacher is not None and job.alpha:
        numbers += 1.25 * shape.vocab
        vectors = FLOAT * job.text.target_tokens * job.teacher.vector_size
        shared += FLOAT * sum(map(torch.numel, job.teacher.parameters())) + min(vectors, MAX_STORE_BYTES)
        read = min(teacher.BATCH_SIZE * longest, MAX_BATCH_PIECES + longest)
        without_gradient = max(without_gradient, read * _token_numbers(job.teacher.shape, longest))
    activations = max(tokens * (numbers + 2 * longest), without_gradient)
    own = 3.5 * weights + ALLOCATOR * FLOAT * activations + PROCESS
    require(
        job.label,
        0 if network.device.type == "cuda" else shared + processes * (own + text_bytes(len(job.text))),
        disk=(3 + 2 * moments + 2 * (settings.keep_checkpoint == "best")) * weights,  # two checkpoints, and the model
        folder=job.resume or Path(),
        lower="processes in machine.yaml, a size, batch_size or data.max_length in params.yaml, or dev's longest line",
    )


def require_decoding(
    name: str, job: DecodingJob, network: Network, *, sources: Iterable[str], lines_left: int, cache_folder: Path
) -> None:
    """Raise InputError where the n-best list of a text does not fit. lines_left: those that the cache lacks."""
    lines, pieces, longest = 0, 0.0, 1  # longest: pieces at most, as a rare character has one for each byte
    for source in sources:
        lines, pieces = lines + 1, pieces + min(MAX_LINE_PIECES, len(source) / PIECE_CHARACTERS)
        longest = max(longest, len(source.encode()) + 1)
    mean = pieces / max(1, lines)
    lists = min(LINES_PER_PART, lines) * job.beam * (HYPOTHESIS + WORD * mean)
    own = lists + search_bytes(job, network, lines=lines, longest=longest)
    require(
        name,
        0 if translator.on_gpu(job.machine) else job.machine.processes * own,
        disk=nbest_bytes(lines_left, mean, beam=job.beam),
        folder=cache_folder,
        lower="processes in machine.yaml, or the beam in params.yaml",
    )


def require_evaluation(job: DecodingJob, network: Network, text: TokenizedCorpus) -> None:
    """Raise InputError where perplexity or translations of a test set do not fit. job: that of the largest beam."""
    scored = PROCESS + ALLOCATOR * FLOAT * perplexity_numbers(network, text)
    own = search_bytes(job, network, lines=len(text), longest=int(text.sources.lengths().max()))
    require(
        f"evaluate {job.model.name}",
        0 if translator.on_gpu(job.machine) else max(scored, job.machine.processes * own),
        lower="processes in machine.yaml, evaluate.beams in params.yaml, or the longest test line",
    )


def search_bytes(job: DecodingJob, network: Network, *, lines: int, longest: int) -> float:
    """Return what a process takes that searches so many lines, the longest of so many pieces."""
    shape, longest = network.shape, min(longest, MAX_LINE_PIECES)
    rows = min(max(job.beam, job.machine.max_batch_hypotheses), job.beam * min(CHUNK_SIZE, lines))
    vectors = 4 * shape.layers + 2 + 2 * beam_search.MAX_PIECES_PER_ROW  # of a row: states, encoder output
    blocks = BLOCK_ROWS * shape.vocab * (1 if shape.members == 1 else 2)  # logits; of an ensemble, their mean too
    numbers = rows * (network.vector_size * vectors + 2 * beam_search.max_length(longest)) + blocks
    numbers += 2 * network.vector_size * longest  # of a source that has more pieces than the rows of its beam allow
    return FLOAT * (_packed_numbers(network) + ALLOCATOR * numbers) + PROCESS


def perplexity_numbers(network: Network, text: TokenizedCorpus) -> float:
    """Return how many numbers the perplexity of a text holds at its peak, beside the weights."""
    planned = [(len(rows), text.longest(rows)) for rows in batches.make_batches(text, perplexity.BATCH_SIZE)]
    together = [count * longest * _token_numbers(network.shape, longest) for count, longest in planned
                if longest <= MAX_LINE_PIECES]  # fmt: skip
    longest, vectors = max(longest for _, longest in planned), 2 if matmul.uses_own_gemm() else 14
    stepwise = _packed_numbers(network) + longest * (vectors * network.vector_size + PIECE_NUMBERS)
    return max([*together, stepwise * (longest > MAX_LINE_PIECES)])


def _token_numbers(shape: NetworkShape, longest: int) -> float:
    """Return how many numbers a pass without gradient holds of a token: activations, attention weights or logits."""
    logits = 1.25 if shape.members == 1 else 5.0  # of an ensemble: two members', their softmax and the mean
    return max((8 * shape.layers + 12) * shape.hidden + longest, logits * shape.vocab)


def _packed_numbers(network: Network) -> int:
    """Return how many numbers a network prepared for a search has beside its own: weights, packed; tables of words."""
    return 2 * sum(map(torch.numel, network.parameters())) + 4 * network.vector_size * network.shape.vocab


def parameter_count(settings: NetworkSettings, vocab_size: int) -> int:
    """Return the parameters of a network, which is made without memory for them."""
    with torch.device("meta"):
        shape = NetworkShape(vocab_size, settings.layers, settings.hidden, settings.dropout, settings.members)
        network = ensemble.make(shape)
    return sum(map(torch.numel, network.parameters()))


def text_bytes(pairs: float) -> float:
    """Return what a process takes for a text of so many pairs: the order of its batches, and what puts it in order.

    The text itself lies in files that are mapped into memory.
    """
    return 20 * pairs


def nbest_bytes(lines: int, pieces: float, *, beam: int) -> float:
    """Return what an n-best list, with so many pieces a hypothesis, takes on the disk in all three copies."""
    return 3 * lines * beam * (2.0 + 0.95 * pieces)


def require(name: str, memory: float, *, disk: float = 0, folder: Path = Path(), lower: str) -> None:
    """Raise InputError where so much is not free. name: what needs it; lower: the settings to lower."""
    needs = [(memory, free_memory(), "of memory"), (disk, free_disk(folder), f"on the disk of {folder}")]
    for size, free, where in needs:
        if size > free:
            sizes = f"{size / 1e6:,.0f} MB {where}, and {free / 1e6:,.0f} MB is free"
            raise InputError(f"{name} needs about {sizes}; lower {lower}.")


def free_disk(folder: Path) -> int:
    """Return what is free on the disk of a folder, which need not exist yet."""
    folder = folder.absolute()
    return shutil.disk_usage(next(path for path in (folder, *folder.parents) if path.exists())).free


def free_memory() -> int:
    """Return what this process and its children may still take, by the machine, their control groups and limits."""
    return min([int(psutil.virtual_memory().available), *cgroup_memory(), *_ulimit_memory()])


def cgroup_memory(root: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")) -> list[int]:
    """Return what each control group (v1 or v2) above this process still allows; cached files count as free."""
    free: list[int | None] = []
    for line in own.read_text(encoding="utf-8").splitlines() if own.exists() else []:
        _, controllers, path = line.split(":", 2)
        if controllers in CGROUP_FILES:
            top = root / controllers
            group = top / path.lstrip("/")
            folders = [folder for folder in (group, *group.parents) if folder.is_relative_to(top)]
            free += [_group_memory(folder, *CGROUP_FILES[controllers]) for folder in folders]
    return [size for size in free if size is not None]


def _group_memory(folder: Path, limit: str, usage: str, cached: str) -> int | None:
    """Return what one control group still allows; None: it sets no limit."""
    try:
        most, used = (folder / limit).read_text().strip(), int((folder / usage).read_text())
        stat = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
        return None if most == "max" else max(0, int(most) - used + int(stat.get(cached, 0)))
    except (OSError, ValueError):
        return None


def _ulimit_memory() -> list[int]:
    """Return what the limits of this process (ulimit -v, -d) still allow."""
    used = psutil.Process().memory_info()
    pairs = ((resource.RLIMIT_AS, used.vms), (resource.RLIMIT_DATA, getattr(used, "data", 0)))
    limits = [(resource.getrlimit(kind)[0], size) for kind, size in pairs]
    return [max(0, most - size) for most, size in limits if most != resource.RLIM_INFINITY]
