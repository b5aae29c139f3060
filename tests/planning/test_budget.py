"""Memory and disk by formula, beside what processes and files are seen to take; and the refusals."""

import itertools
import os
import re
import resource
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from source_tree import ROOT

from seqkd.config.schema import Machine, NetworkSettings, OptimizerSettings
from seqkd.data import bitext, nbest, vocab
from seqkd.data.batches import TokenizedCorpus
from seqkd.data.bitext import Pair
from seqkd.data.vocab import Vocab
from seqkd.decoding import beam_search
from seqkd.models import checkpoint, lstm
from seqkd.ops.cpu import gemm
from seqkd.planning import budget
from seqkd.planning.budget import CorpusStats, ResourceEstimate
from seqkd.training import teacher, trainer
from seqkd.utils.errors import InputError
from stages import train

pytestmark = pytest.mark.slow

MB = 1 << 20
ADAM = OptimizerSettings(optimizer="adam", learning_rate=0.001, schedule="constant", epochs=1, batch_size=32)
SGD = ADAM.model_copy(update={"optimizer": "sgd"})
LINES = CorpusStats(pairs=1000, source=12.0, target=14.0, longest=40)
SYLLABLES = itertools.product("abdefghilm", "aeiou", "lmnrst", "aeiou", "nt")
WORDS = ["".join(word) for word in itertools.islice(SYLLABLES, 2000)]
NEED = ResourceEstimate("decode k9", 100 * MB, {Path("data"): 5_000_000}, "the beam in params.yaml")


def size(layers: int, hidden: int) -> NetworkSettings:
    return NetworkSettings(size=f"{layers}x{hidden}", dropout=0.0)


def test_the_parameters_of_a_tiny_network_counted_by_hand() -> None:
    embeddings_and_output = 3 * 5 * 2 + 5
    encoder = 8 * 2 + 8 * 2 + 8  # gates from the word, gates from the state, bias
    decoder = 8 * 2 + 8 * 4 + 8  # from the word, from [input; state], bias
    attention = 2 * 2 + 2 * 4
    assert budget.parameters(size(1, 2), 5) == embeddings_and_output + encoder + decoder + attention


@pytest.mark.parametrize(("layers", "hidden", "vocab"), [(1, 4, 11), (2, 6, 20), (4, 3, 9)])
def test_the_parameters_are_those_of_the_network(layers: int, hidden: int, vocab: int) -> None:
    made = lstm.LSTMNetwork(lstm.NetworkShape(vocab, layers, hidden, 0.0))
    assert budget.parameters(size(layers, hidden), vocab) == sum(it.numel() for it in made.parameters())
    assert budget.parameters(made.shape, vocab) == budget.parameters(size(layers, hidden), vocab)


def test_the_numbers_it_shares_with_the_code_that_does_the_work() -> None:
    assert (Machine().max_batch_hypotheses, beam_search.MAX_PIECES_PER_ROW, nbest.LINES_PER_PART) == (
        budget.ROWS,
        budget.PIECES,
        budget.LINES,
    )
    assert (budget.STORE, budget.FEWEST, budget.NEAR) == (
        teacher.MAX_STORE_BYTES,
        trainer.MIN_SHARD_ROWS,
        gemm.BLOCK_ROWS,
    )


@pytest.mark.parametrize("pruned", [0.0, 0.5, 0.9])
def test_a_models_folder_takes_what_is_said(pieces: Vocab, tmp_path: Path, *, pruned: float) -> None:
    network = lstm.LSTMNetwork(lstm.NetworkShape(pieces.size, 2, 32, 0.0))
    mask = None
    if pruned:
        count = sum(parameter.numel() for parameter in network.parameters())
        mask = torch.arange(count) >= pruned * count  # the weights are zeros, as pruned ones must be
    checkpoint.save(tmp_path / "model", checkpoint.Model(network, pieces, mask), card="")
    taken = sum(path.stat().st_size for path in (tmp_path / "model").iterdir())
    assert budget.model(size(2, 32), pieces.size, pruned=pruned) == pytest.approx(taken, rel=0.5)


@pytest.mark.parametrize("settings", [ADAM, SGD], ids=["adam", "sgd"])
def test_the_state_of_a_training_takes_what_is_said(tmp_path: Path, *, settings: OptimizerSettings) -> None:
    text = TokenizedCorpus([[4, 5, 6]] * 64, [[4, 5, 6]] * 64)
    lesson = trainer.TrainingJob(text, text, settings, seed=1, resume=tmp_path / "state")
    trainer.train(
        lstm.LSTMNetwork(lstm.NetworkShape(200, 2, 64, 0.0)), lesson, Machine(processes=1, checkpoint_interval=0.0)
    )
    taken = sum(path.stat().st_size for path in (tmp_path / "state").iterdir())
    assert taken / 1.5 < budget.state(size(2, 64), settings, 200) < 1.5 * taken


def test_more_of_anything_needs_more() -> None:
    def training(*, layers: int = 2, hidden: int = 64, vocab: int = 500, workers: int = 1, **other: int) -> int:
        lines = CorpusStats(other.get("pairs", 1000), 12.0, 14.0, other.get("longest", 40))
        settings = ADAM.model_copy(update={"batch": other.get("batch", 32)})
        return budget.training(size(layers, hidden), settings, lines, vocab=vocab, processes=workers)

    more = {"layers": 3, "hidden": 65, "vocab": 501, "processes": 2, "pairs": 1001, "longest": 41, "batch_size": 33}
    assert all(training(**{name: value}) > training() for name, value in more.items())
    settings = {"vocab": 500, "nbest": 5, "processes": 1}
    narrow = budget.searching(size(2, 64), LINES, beam=5, **settings)
    assert budget.searching(size(2, 64), LINES, beam=5, **settings | {"nbest": 1}) < narrow
    assert budget.searching(size(2, 64), LINES, beam=5, **settings | {"processes": 2}) > narrow
    assert budget.lists(LINES, beam=10) == 2 * budget.lists(LINES, beam=5)


def test_word_kd_needs_the_teacher_and_its_vectors_while_they_are_few() -> None:
    def training(pairs: int, teacher: NetworkSettings | None) -> int:
        lines = CorpusStats(pairs, 1.0, 1.0, 2)
        return budget.training(size(1, 8), ADAM, lines, vocab=20, processes=1, teacher=teacher)

    few, many = (training(pairs, size(2, 1000)) - training(pairs, None) for pairs in (1000, 10_000_000))
    assert few - many == pytest.approx(1000 * 2 * 1000 * 4, rel=0.01)


PEAK = """
import re, sys
import torch
from seqkd import batches, config, hardware, search, trainer
from seqkd.model import Network, Shape

work, vocab, layers, hidden, longest = sys.argv[1], *map(int, sys.argv[2:])
peak = lambda: 1024 * int(re.search("VmHWM:(.*) kB", open("/proc/self/status").read())[1])  # not its parent's
machine = config.Machine(workers=1, device="cpu")
hardware.settle(machine)
before = peak()
network = Network(Shape(vocab, layers, hidden, 0.3))
network.init_weights(torch.Generator().manual_seed(1))
lines = [[4 + (at * length) % (vocab - 4) for at in range(length)] for length in range(3, longest + 1)] * 12
if work == "train":
    text = batches.Text(lines, lines)
    settings = config.Optim(method="adam", rate=0.001, schedule="constant", epochs=1, batch=32)
    trainer.train(network, trainer.Lesson(text, batches.Text(lines[:2], lines[:2]), settings, 1), machine)
else:
    network.output_bias.data[3] = -1e4
    search.decode(network, [lines[longest - 3]] * 2 * longest, beam=20, nbest=20)
print(peak() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="/proc tells the peak on Linux alone")
@pytest.mark.parametrize("shape", [(8000, 2, 128, 30), (3000, 2, 256, 40), (20_000, 2, 400, 12)], ids=str)
@pytest.mark.parametrize("work", ["train", "search"])
def test_a_process_takes_what_is_said_within_a_half(work: str, shape: tuple[int, int, int, int]) -> None:
    vocab, layers, hidden, longest = shape
    command = [sys.executable, "-c", PEAK, work, *map(str, shape)]
    grown = int(subprocess.check_output(command, cwd=ROOT, text=True, stderr=subprocess.DEVNULL))
    lines = CorpusStats(2 * longest, longest, longest, longest)
    if work == "train":
        lines = CorpusStats(12 * (longest - 2), longest / 2, longest / 2, longest)
        said = budget.training(size(layers, hidden), ADAM, lines, vocab=vocab, processes=1)
    else:
        said = budget.searching(size(layers, hidden), lines, vocab=vocab, beam=20, nbest=20, processes=1)
    assert grown / 1.5 < said < 1.5 * grown, f"said {said >> 20} MB, took {grown >> 20} MB"


READ = """
import re, sys
from pathlib import Path
from seqkd import batches, vocab

peak = lambda: 1024 * int(re.search("VmHWM:(.*) kB", open("/proc/self/status").read())[1])
pieces = vocab.load(Path(sys.argv[2]))
before = peak()
text = batches.read(Path(sys.argv[1]), pieces)
print(peak() - before, sum(map(len, text.sources)), sum(map(len, text.targets)))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="/proc tells the peak on Linux alone")
@pytest.mark.parametrize("words", [4, 20])
def test_a_text_takes_what_is_said_within_a_half(pieces: Vocab, tmp_path: Path, *, words: int) -> None:
    twice = WORDS * 2
    texts = [" ".join(twice[at : at + words]) for at in range(len(WORDS))]
    lines = [Pair(at, texts[3 * at % 2000], texts[7 * at % 2000]) for at in range(20_000)]
    bitext.write(tmp_path / "reference.tsv", lines)
    (tmp_path / "joint.model").write_bytes(pieces.model)
    command = [sys.executable, "-c", READ, str(tmp_path / "reference.tsv"), str(tmp_path / "joint.model")]
    grown, source, target = map(int, subprocess.check_output(command, cwd=ROOT, text=True).split())
    said = CorpusStats(20_000, source / 20_000, target / 20_000, 0).bytes
    assert grown / 1.5 < said < 1.5 * grown, f"said {said / MB:.0f} MB, took {grown >> 20} MB"


def test_what_fits_is_let_through() -> None:
    budget.require(NEED, memory=100 * MB, disk=5_000_000)


def test_too_little_memory_is_one_sentence_with_what_is_needed_what_is_free_and_the_mend() -> None:
    with pytest.raises(InputError) as error:
        budget.require(NEED, memory=50_000_000, disk=5_000_000)
    assert str(error.value) == (
        "decode k9 needs about 105 MB of memory, and 50.0 MB is free; lower the beam in params.yaml."
    )


def test_too_little_disk_names_the_folder() -> None:
    with pytest.raises(InputError) as error:
        budget.require(NEED, memory=100 * MB, disk=4_999_999)
    assert str(error.value) == (
        "decode k9 needs about 5.0 MB on the disk of data, where 5.0 MB is free;"
        " make room there, or lower the beam in params.yaml."
    )


def test_folders_of_one_disk_share_its_room(tmp_path: Path) -> None:
    two = ResourceEstimate("report", 0, {tmp_path / "a" / "b": 60, tmp_path: 50}, "")
    budget.require(two, memory=1, disk=110)
    with pytest.raises(InputError, match="about 110 B on the disk"):
        budget.require(two, memory=1, disk=109)


def test_the_free_disk_is_that_of_the_nearest_folder_there_is(tmp_path: Path) -> None:
    assert budget.free_disk(tmp_path / "not" / "there" / "yet") == pytest.approx(budget.free_disk(tmp_path), rel=0.01)


def test_a_control_groups_limit_counts_and_what_it_keeps_of_files_is_free(tmp_path: Path) -> None:
    inner = tmp_path / "outer" / "inner"
    inner.mkdir(parents=True)
    limits = {tmp_path / "outer": ("1000", "700", 100), inner: ("max", "200", 0)}
    for folder, (most, taken, kept) in limits.items():
        (folder / "memory.max").write_text(f"{most}\n")
        (folder / "memory.current").write_text(f"{taken}\n")
        (folder / "memory.stat").write_text(f"anon 5\ninactive_file {kept}\n")
    (tmp_path / "own").write_text("0::/outer/inner\n")
    assert budget.group_rooms(tmp_path, tmp_path / "own") == [400]
    assert budget.group_rooms(tmp_path, tmp_path / "absent") == []


def test_the_older_control_groups_limit_counts_too(tmp_path: Path) -> None:
    folder = tmp_path / "memory" / "job"
    folder.mkdir(parents=True)
    (folder / "memory.limit_in_bytes").write_text("1000\n")
    (folder / "memory.usage_in_bytes").write_text("600\n")
    (folder / "memory.stat").write_text("total_inactive_file 50\n")
    (tmp_path / "own").write_text("4:cpu,cpuacct:/job\n3:memory:/job\n")
    assert budget.group_rooms(tmp_path, tmp_path / "own") == [450]


def test_a_limit_of_the_process_counts() -> None:
    code = "from seqkd import budget; print(budget.free_memory())"

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (2_000 * MB, 2_000 * MB))

    told = subprocess.check_output([sys.executable, "-c", code], cwd=ROOT, text=True, preexec_fn=limit)
    assert 0 < int(told) < 2_000 * MB


def test_lengths_are_guessed_from_characters() -> None:
    found = CorpusStats.guessed([Pair(0, "x" * 42, "y" * 84), Pair(1, "x" * 42, "")])
    assert (found.pairs, found.source, found.target, found.longest) == (2, 10.0, 10.0, 20)


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    """A project whose place for unfinished work is a disk of one megabyte."""
    state = tmp_path / ".dvc" / "tmp"
    state.mkdir(parents=True)
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(state)]
    if os.geteuid() or subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("only root can mount a small disk, and not in every container")
    return state


def test_a_list_that_no_disk_could_hold_is_refused_before_it_is_begun(
    disk: Path, pieces: Vocab, tmp_path: Path
) -> None:
    try:
        (tmp_path / "params.yaml").write_bytes((ROOT / "params.yaml").read_bytes())
        (tmp_path / "machine.yaml").write_text("processes: 1\ndevice: cpu\n")
        sides = " ".join(WORDS[:9]), " ".join(WORDS[9:18])
        bitext.write(tmp_path / "reference.tsv", [Pair(at, *sides) for at in range(2000)])
        network = lstm.LSTMNetwork(lstm.NetworkShape(pieces.size, 1, 8, 0.0))
        checkpoint.save(tmp_path / "teacher", checkpoint.Model(network, pieces, None), card="")
        command = [str(Path(sys.executable).with_name("seqkd")), "decode", "k35", "--teacher", "teacher"]
        command += ["--text", "reference.tsv", "--out", "lists"]
        done = subprocess.run(command, cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT)}, check=False,
                              capture_output=True, text=True)  # fmt: skip
        assert done.returncode == 1
        assert done.stderr.startswith("seqkd decode: decode k35 needs about ")
        assert " MB on the disk of " in done.stderr
        assert done.stderr.endswith("lower workers in machine.yaml, or the beam in params.yaml.\n")
        assert done.stderr.count("\n") == 1
        assert not (tmp_path / "lists").exists()
        assert [path for path in disk.rglob("*") if path.is_file() and path.parent.name != "locks"] == []
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_a_network_that_no_memory_could_hold_is_refused_before_it_is_made(
    pieces: Vocab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = (ROOT / "params.yaml").read_text(encoding="utf-8")
    (tmp_path / "params.yaml").write_text(re.sub(r"student: {size: \w+", "student: {size: 9x90000", settings))
    (tmp_path / "joint.model").write_bytes(pieces.model)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"^A network of 9x90000 needs about 4\.\d TB of memory, and .* is free"):
        train.main(
            "baseline",
            role="student",
            text=tmp_path / "reference.tsv",
            corpus=tmp_path,
            vocabulary=tmp_path / "joint.model",
            curve=tmp_path / "curve.csv",
            out=tmp_path / "baseline",
        )


@pytest.fixture(scope="module")
def pieces(tmp_path_factory: pytest.TempPathFactory) -> Vocab:
    return vocab.train(WORDS, tmp_path_factory.mktemp("vocab") / "joint.model", size=1500)
