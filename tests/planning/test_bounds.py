"""Upper bounds beside what processes and files are seen to take; the refusals; what is free."""

import itertools
import os
import re
import subprocess
import sys
import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from source_tree import ROOT

from seqkd.config.machine import Machine
from seqkd.config.schema import NetworkSettings, OptimizerSettings
from seqkd.data import batches, bitext, nbest, vocab
from seqkd.data.batches import TokenizedCorpus
from seqkd.data.bitext import Pair
from seqkd.data.ragged import RaggedArray
from seqkd.data.vocab import Vocab
from seqkd.decoding.translator import DecodingJob
from seqkd.models import checkpoint, lstm
from seqkd.planning import bounds
from seqkd.training import trainer
from seqkd.training.trainer import TrainingJob
from seqkd.utils.errors import InputError
from stages import evaluate, train

MB = 1 << 20
ADAM = OptimizerSettings(optimizer="adam", learning_rate=0.001, schedule="constant", epochs=1, batch_size=32)
SGD = ADAM.model_copy(update={"optimizer": "sgd"})
TEXT = TokenizedCorpus([[4, 5, 6]] * 64, [[4, 5, 6, 7]] * 64)
ONE = Machine(processes=1, device="cpu")
SYLLABLES = itertools.product("abdefghilm", "aeiou", "lmnrst", "aeiou", "nt")
WORDS = ["".join(word) for word in itertools.islice(SYLLABLES, 2000)]
Needs = list[tuple[float, float]]


def network(layers: int = 2, hidden: int = 64, vocab_size: int = 500) -> lstm.LSTMNetwork:
    return lstm.LSTMNetwork(lstm.NetworkShape(vocab_size, layers, hidden, 0.0))


@pytest.fixture
def needs(monkeypatch: pytest.MonkeyPatch) -> Needs:
    """Memory and disk of whatever is asked for, none of it refused."""
    asked: Needs = []
    monkeypatch.setattr(bounds, "require", lambda _, memory, *, disk=0, **__: asked.append((memory, disk)))
    return asked


@pytest.mark.parametrize(("layers", "hidden", "vocab_size"), [(1, 4, 11), (2, 6, 20), (4, 3, 9)])
def test_parameter_count_is_that_of_the_network(layers: int, hidden: int, vocab_size: int) -> None:
    settings = NetworkSettings(size=f"{layers}x{hidden}", dropout=0.0)
    made = network(layers, hidden, vocab_size)
    assert bounds.parameter_count(settings, vocab_size) == sum(each.numel() for each in made.parameters())


def test_network_that_no_memory_could_hold_is_refused_by_its_weights_alone() -> None:
    needed = r"^teacher: a network of 99x99999 needs about 63,\d{3},\d{3} MB of memory, and"
    with pytest.raises(InputError, match=needed):
        bounds.require_network("teacher", NetworkSettings(size="99x99999", dropout=0.0), 1000)
    bounds.require_network("student", NetworkSettings(size="2x64", dropout=0.0), 1000)


@pytest.mark.parametrize("settings", [ADAM, SGD, ADAM.model_copy(update={"keep_checkpoint": "best"})])
def test_training_bound_covers_its_checkpoints_on_the_disk(
    needs: Needs, tmp_path: Path, *, settings: OptimizerSettings
) -> None:
    job = TrainingJob(TEXT, TEXT, settings, seed=1, resume=tmp_path / "state")
    bounds.require_training(job, network(), ONE)
    trainer.train(network(), job, ONE.model_copy(update={"checkpoint_interval": 0.0}))
    taken = sum(path.stat().st_size for path in (tmp_path / "state").iterdir())
    assert taken < needs[0][1] < 2 * taken


def test_training_bound_rises_with_whatever_it_holds(needs: Needs) -> None:
    def bound(processes: int = 1, size: tuple[int, int, int] = (2, 64, 500), **job: Any) -> float:
        training = replace(TrainingJob(TEXT, TEXT, ADAM, seed=1), **job)
        bounds.require_training(training, network(*size), Machine(processes=processes, device="cpu"))
        return needs[-1][0]

    base, longer = bound(), TokenizedCorpus([*TEXT.sources, [4] * 9], [*TEXT.targets, [4]])
    more = [bound(size=(3, 64, 500)), bound(size=(2, 65, 500)), bound(size=(2, 64, 501)), bound(processes=2)]
    more += [bound(text=longer), bound(settings=ADAM.model_copy(update={"batch_size": 33}))]
    more += [bound(teacher=network(), alpha=0.5)]
    assert min(more) > base
    assert bound(settings=SGD) < base
    assert bound(teacher=network()) == base  # without alpha nothing asks the teacher


def test_training_bound_counts_the_teachers_vectors_as_far_as_they_are_stored(
    needs: Needs, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = TrainingJob(TEXT, TEXT, ADAM, seed=1, alpha=0.5, teacher=network(hidden=100))
    bounds.require_training(job, network(), ONE)
    monkeypatch.setattr(bounds, "MAX_STORE_BYTES", 1000)
    bounds.require_training(job, network(), ONE)
    assert needs[0][0] - needs[1][0] == 64 * 5 * 100 * 4 - 1000


def test_training_bound_knows_a_long_dev_line_and_is_not_fooled_by_it(needs: Needs) -> None:
    def bound(text: TokenizedCorpus = TEXT, dev: TokenizedCorpus = TEXT, batch_size: int = 32) -> float:
        settings = ADAM.model_copy(update={"batch_size": batch_size})
        bounds.require_training(TrainingJob(text, dev, settings, seed=1), network(), ONE)
        return needs[-1][0]

    long = TokenizedCorpus([*TEXT.sources, [4] * 20_000], [*TEXT.targets, [4] * 20_000])
    assert bound() < bound(dev=long) < bound() + 40 * MB
    assert bound(long, batch_size=512) < 2 * bound(long, batch_size=1)  # the long line comes alone


def test_decoding_bound_counts_bytes_for_the_longest_line_and_no_more_than_a_search_reads(needs: Needs) -> None:
    def bound(*sources: str) -> float:
        job = DecodingJob(Path("teacher"), ONE, 5)
        bounds.require_decoding("k5", job, network(), sources=sources, lines_left=0, cache_folder=Path())
        return needs[-1][0]

    assert bound("\U0001d518" * 100) > bound("a" * 100)
    assert bound("a" * 20_000) < bound("a" * 1000) + MB


def test_evaluation_bound_rises_with_beam_processes_and_the_longest_line(needs: Needs) -> None:
    def bound(beam: int = 5, processes: int = 1, text: TokenizedCorpus = TEXT) -> float:
        job = DecodingJob(Path("models/m"), Machine(processes=processes, device="cpu"), beam)
        bounds.require_evaluation(job, network(), text)
        return needs[-1][0]

    assert bound(processes=2) == 2 * bound()
    assert bound(beam=10) > bound()
    assert bound(text=TokenizedCorpus([*TEXT.sources, [4] * 900], [*TEXT.targets, [4]])) > bound()


def test_decoding_bound_rises_with_beam_processes_and_lines(needs: Needs) -> None:
    def bound(beam: int = 5, processes: int = 1, lines: int = 100, left: int = 100) -> tuple[float, float]:
        job = DecodingJob(Path("teacher"), Machine(processes=processes, device="cpu"), beam)
        sources = iter(["ein Satz mit sechs Wörtern hier"] * lines)
        bounds.require_decoding("k5", job, network(), sources=sources, lines_left=left, cache_folder=Path())
        return needs[-1]

    memory, disk = bound()
    assert bound(processes=2) == (2 * memory, disk)
    assert bound(beam=10)[0] > memory
    assert bound(beam=10)[1] == 2 * disk
    assert bound(lines=200)[0] > memory
    assert bound(left=0) == (memory, 0)
    assert bound(lines=0, left=0)[1] == 0


@pytest.mark.parametrize("count", [5, 35])
def test_nbest_bytes_are_those_of_a_list_within_a_half(tmp_path: Path, count: int) -> None:
    """Every line has random pieces, and each of its hypotheses others in two places."""
    draw = torch.Generator().manual_seed(1)
    entries = []
    for line in range(300):
        ids, hypotheses = torch.randint(4, 2000, (16,), generator=draw), []
        for rank in range(count):
            other = ids.index_copy(
                0, torch.randint(16, (2,), generator=draw), torch.randint(4, 2000, (2,), generator=draw)
            )
            hypotheses.append(nbest.Hypothesis(tuple(other.tolist()), -1.0 - 0.123457 * rank, True))
        entries.append((Pair(line, str(line), ""), hypotheses))
    size = nbest.write_part(tmp_path, 0, entries).stat().st_size
    assert size / 1.5 < bounds.nbest_bytes(300, 16.0, beam=count) / 3 < 1.5 * size


PEAK = """
import re, sys
from pathlib import Path
import torch
from seqkd.config.machine import Machine
from seqkd.config.schema import OptimizerSettings
from seqkd.data.batches import TokenizedCorpus
from seqkd.decoding import beam_search
from seqkd.decoding.translator import DecodingJob
from seqkd.models import ensemble, perplexity
from seqkd.models.interface import NetworkShape
from seqkd.ops import devices
from seqkd.planning import bounds
from seqkd.training import trainer

work, vocab, layers, hidden, longest, members = sys.argv[1], *map(int, sys.argv[2:])
peak = lambda: 1024 * int(re.search("VmHWM:(.*) kB", open("/proc/self/status").read())[1])  # not its parent's
machine = Machine(processes=1, device="cpu")
devices.configure(machine)
before = peak()
network = ensemble.make(NetworkShape(vocab, layers, hidden, 0.3, members))
network.init_weights(torch.Generator().manual_seed(1))
lengths = [longest] if longest > 1000 else range(3, longest + 1)
lines = [[4 + (at * length) % (vocab - 4) for at in range(length)] for length in lengths] * 12
asked = []
bounds.require = lambda name, memory, **_: asked.append(memory)
if work == "perplexity":
    text = TokenizedCorpus(lines, lines)
    bounds.require_evaluation(DecodingJob(Path("teacher"), machine, 1), network, text)
    perplexity.perplexity(network, text)
elif work == "train":
    text = TokenizedCorpus(lines, lines)
    settings = OptimizerSettings(optimizer="adam", learning_rate=0.001, schedule="constant", epochs=1, batch_size=32)
    job = trainer.TrainingJob(text, TokenizedCorpus(lines[:2], lines[:2]), settings, 1, resume=Path("state"))
    bounds.require_training(job, network, machine)
    trainer.train(network, job, machine)
else:
    for member in ensemble.members(network):
        member.output_bias.data[3] = -1e4
    sources = ["x" * round(bounds.PIECE_CHARACTERS * longest)] * 2 * longest
    job = DecodingJob(Path("teacher"), machine, 20)
    bounds.require_decoding("k20", job, network, sources=sources, lines_left=0, cache_folder=Path())
    beam_search.decode(network, [lines[longest - 3]] * 2 * longest, beam=20, nbest=20)
print(peak() - before, round(asked[0]))
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="/proc tells the peak on Linux alone")
@pytest.mark.parametrize(
    ("work", "shape"),
    [
        ("train", (8000, 2, 128, 30, 1)),
        ("train", (20_000, 2, 400, 12, 1)),
        ("search", (8000, 2, 128, 30, 1)),
        ("search", (20_000, 2, 400, 12, 1)),
        ("search", (8000, 2, 128, 30, 3)),
        ("perplexity", (8000, 2, 128, 30, 1)),
        ("perplexity", (8000, 2, 128, 30, 3)),
        ("perplexity", (2000, 4, 128, 200, 1)),
        ("perplexity", (2000, 2, 128, 1500, 1)),
    ],
    ids=str,
)
def test_bound_of_a_process_covers_its_peak_and_is_at_most_twice_that(
    work: str, shape: tuple[int, int, int, int, int], tmp_path: Path
) -> None:
    command = [sys.executable, "-c", PEAK, work, *map(str, shape)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    told = subprocess.check_output(command, cwd=tmp_path, env=environment, text=True, stderr=subprocess.DEVNULL)
    taken, bound = map(int, told.split())
    assert taken < bound < 2 * taken, f"bound {bound >> 20} MB, took {taken >> 20} MB"


def test_text_bytes_are_those_of_the_order_of_batches_within_a_half() -> None:
    pairs = 400_000
    lengths = np.random.default_rng(1).integers(1, 60, (2, pairs))
    text = TokenizedCorpus(*(RaggedArray(np.empty(0), np.cumsum([0, *side])) for side in lengths))
    tracemalloc.start()
    batches.make_batches(text, 64, torch.Generator().manual_seed(1))
    peak = tracemalloc.get_traced_memory()[1] + 4 * pairs  # of what torch holds, which it does not tell
    tracemalloc.stop()
    assert peak / 1.5 < bounds.text_bytes(pairs) < 1.5 * peak, f"took {peak / pairs:.1f} bytes a pair"


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A project whose place for unfinished work is a disk of one megabyte."""
    state = tmp_path / ".dvc" / "tmp"
    state.mkdir(parents=True)
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(state)]
    if os.geteuid() or subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("only root can mount a small disk, and not in every container")
    yield state
    subprocess.run(["umount", str(state)], check=True)


@pytest.mark.slow
def test_decode_refuses_a_list_that_no_disk_could_hold_before_it_begins(
    disk: Path, pieces: Vocab, tmp_path: Path
) -> None:
    (tmp_path / "params.yaml").write_bytes((ROOT / "params.yaml").read_bytes())
    (tmp_path / "machine.yaml").write_text("processes: 1\ndevice: cpu\n")
    sides = " ".join(WORDS[:9]), " ".join(WORDS[9:18])
    bitext.write(tmp_path / "reference.tsv", [Pair(line, *sides) for line in range(2000)])
    checkpoint.save(tmp_path / "teacher", checkpoint.Model(network(1, 8, pieces.size), pieces, None), card="")
    command = [sys.executable, "-m", "seqkd", "decode", "k16", "--teacher", "teacher", "--text", "reference.tsv"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([*command, "--out", "lists"], cwd=tmp_path, env=environment, check=False,
                          capture_output=True, text=True)  # fmt: skip
    assert done.returncode == 1
    assert re.fullmatch(
        r"seqkd decode: decode k16 needs about \d+ MB on the disk of .*, and 1 MB is free;"
        r" lower processes in machine.yaml, or the beam in params.yaml\.\n",
        done.stderr,
    )
    assert not (tmp_path / "lists").exists()
    assert [path for path in disk.rglob("*") if path.is_file() and path.parent.name != "locks"] == []


def test_evaluate_refuses_what_cannot_fit_before_it_begins(
    pieces: Vocab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(bounds, "free_memory", lambda: 10 * MB)
    (tmp_path / "params.yaml").write_bytes((ROOT / "params.yaml").read_bytes())
    (tmp_path / "machine.yaml").write_text("processes: 1\ndevice: cpu\n")
    long = " ".join(WORDS)
    bitext.write(tmp_path / "test.tsv", [Pair(0, WORDS[0], WORDS[1]), Pair(1, long, long)])
    checkpoint.save(tmp_path / "baseline", checkpoint.Model(network(1, 8, pieces.size), pieces, None), card="")
    folders = {"models": tmp_path, "test": Path("test.tsv"), "translations": tmp_path / "said", "out": tmp_path / "out"}
    with pytest.raises(InputError, match=r"^evaluate baseline needs about \d+ MB of memory, and 10 MB is free; lower"):
        evaluate.main("baseline", **folders)  # type: ignore[arg-type]
    assert capsys.readouterr().err.startswith("test.tsv: 1 line has more than 1,000 pieces, the first is line 2: only")
    assert not (tmp_path / "said").exists()


def test_train_refuses_a_network_that_no_memory_could_hold_before_it_is_made(
    pieces: Vocab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = (ROOT / "params.yaml").read_text(encoding="utf-8")
    (tmp_path / "params.yaml").write_text(re.sub(r"student: {size: \w+", "student: {size: 9x90000", settings))
    (tmp_path / "joint.model").write_bytes(pieces.model)
    bitext.write(tmp_path / "reference.tsv", [Pair(0, *WORDS[:2])])
    monkeypatch.chdir(tmp_path)
    needed = r"^baseline: a network of 9x90000 needs about 4,\d{3},\d{3} MB of memory, and"
    with pytest.raises(InputError, match=needed):
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
