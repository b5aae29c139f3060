"""The n-best list of a text: each line is decoded once, for every text, and a killed run ends in the same bits."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import yaml
from source_tree import ROOT

from seqkd.config import schema
from seqkd.config.schema import Machine
from seqkd.data import bitext, nbest, vocab
from seqkd.data.bitext import Pair
from seqkd.decoding import corpus_decoder, nbest_cache, translator
from seqkd.decoding.nbest_cache import NbestCache
from seqkd.decoding.translator import DecodingJob
from seqkd.models import checkpoint, lstm
from seqkd.models.checkpoint import Model
from seqkd.utils import fingerprint
from seqkd.utils.errors import InputError

WORDS = ["the", "a", "cat", "dog", "house", "sat", "ran", "saw", "on", "in", "mat", "garden", "old", "small", "never"]


def _texts(count: int, seed: int = 3) -> list[str]:
    """Random sentences, some of them twice."""
    generator = random.Random(seed)
    found = [" ".join(generator.choices(WORDS, k=generator.randint(0, 9))) for _ in range(count)]
    return [generator.choice(found) if generator.random() < 0.2 else text for text in found]


def _text(path: Path, sources: list[str]) -> Path:
    bitext.write(path, [Pair(2 * at, source, "x") for at, source in enumerate(sources)])
    return path


def save_model(folder: Path, *, seed: int = 1) -> None:
    pieces = vocab.train(_texts(300), folder.parent / f"{folder.name}.model", size=60)
    network = lstm.LSTMNetwork(lstm.NetworkShape(pieces.size, 1, 16, 0.0))
    network.init_weights(torch.Generator().manual_seed(seed), init_range=0.7)
    checkpoint.save(folder, Model(network, pieces, None), card="")


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("lists") / "teacher"
    save_model(folder)
    return folder


@pytest.fixture
def job(teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DecodingJob:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(corpus_decoder, "CHUNK_SIZE", 40)
    monkeypatch.setattr(nbest, "LINES_PER_PART", 100)
    return DecodingJob(teacher, Machine(processes=1, device="cpu"), 3, 3)


DECODER = "seqkd.decoding.corpus_decoder"


def _decode(job: DecodingJob, text: Path, out: Path) -> int:
    """As the stage does; how many sources were decoded."""
    kept = corpus_decoder.open_cache(job)
    count = sum(corpus_decoder.decode_missing(kept, text, job))
    corpus_decoder.write(kept, text, out, processes=job.machine.processes)
    return count


def _bytes(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_every_line_has_the_teachers_own_list(job: DecodingJob, tmp_path: Path) -> None:
    sources = _texts(250)
    text = _text(tmp_path / "reference.tsv", sources)
    assert _decode(job, text, tmp_path / "k3") == len(set(sources)) < 250
    pairs = bitext.read(text)
    alone = translator.run(job._replace(sources=sources))
    assert [path.name for path in nbest.parts(tmp_path / "k3", lines=250)] == [
        f"part-0000{at}.tsv.gz" for at in range(3)
    ]
    for index, path in enumerate(nbest.parts(tmp_path / "k3", lines=250)):
        for line, hypotheses in nbest.read_part(path, pairs[nbest.positions(index)]):
            expected = alone[line // 2]
            assert [it.ids for it in hypotheses] == [it.ids for it in expected]
            assert [it.logprob for it in hypotheses] == [round(it.logprob, 6) for it in expected]
    assert not list(tmp_path.glob(".k3*"))


def test_a_text_that_grows_decodes_its_new_lines_only(job: DecodingJob, tmp_path: Path) -> None:
    old, new = _texts(200), ["never a cat and a dog and a house", "garden garden garden", "old old old old"]
    _decode(job, _text(tmp_path / "old.tsv", old), tmp_path / "old")
    mixed = _text(tmp_path / "new.tsv", [new[0], *old[50:], new[1], new[2], new[1]])
    kept = corpus_decoder.open_cache(job)
    assert corpus_decoder.count(kept, mixed) == (154, 4)
    assert list(corpus_decoder.missing(kept, mixed)) == [new]
    assert _decode(job, mixed, tmp_path / "new") == 3
    assert _decode(job, mixed, tmp_path / "again") == 0
    assert _bytes(tmp_path / "new") == _bytes(tmp_path / "again")


def test_other_weights_other_searches_and_other_precisions_keep_apart(job: DecodingJob, tmp_path: Path) -> None:
    save_model(tmp_path / "other", seed=2)
    others = [job, job._replace(model=tmp_path / "other"), job._replace(beam=4), job._replace(nbest=2)]
    others += [job._replace(length_penalty=0.5), job._replace(precision="bf16")]
    assert len({corpus_decoder.open_cache(it).path for it in others}) == len(others)


def test_the_machine_and_the_card_of_the_teacher_do_not_keep_apart(job: DecodingJob, tmp_path: Path) -> None:
    before = corpus_decoder.open_cache(job).path
    (job.model / "README.md").write_text("another card")
    assert (
        corpus_decoder.open_cache(job._replace(machine=Machine(processes=2, device="cpu", max_batch_hypotheses=7))).path
        == before
    )


def test_an_edit_of_a_comment_keeps_the_lists_and_one_of_the_search_does_not(tmp_path: Path) -> None:
    shutil.copytree(
        ROOT / "seqkd", tmp_path / "seqkd", dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__")
    )
    before, search = fingerprint.of(DECODER), tmp_path / "seqkd/decoding/beam_search.py"
    search.write_text(search.read_text().replace("# before the normaliser", "# well before the normaliser") + "\n# x\n")
    assert fingerprint.of(DECODER, package=tmp_path / "seqkd") == before
    search.write_text(search.read_text().replace("return 2 * source + 10", "return 3 * source + 10"))
    assert fingerprint.of(DECODER, package=tmp_path / "seqkd") != before


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2])
def test_a_run_stopped_after_any_group_and_taken_up_again_ends_in_the_same_bits(
    job: DecodingJob, tmp_path: Path, processes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = job._replace(machine=Machine(processes=processes, device="cpu"))
    text = _text(tmp_path / "reference.tsv", _texts(330))
    _decode(job, text, tmp_path / "whole")
    groups = []
    for stop in (1, 2, 5):
        monkeypatch.setattr(corpus_decoder, "CACHE_NAME", f"stop-{processes}-{stop}")
        kept, filling = (
            corpus_decoder.open_cache(job),
            corpus_decoder.decode_missing(corpus_decoder.open_cache(job), text, job),
        )
        groups.append([next(filling) for _ in range(stop)])
        filling.close()  # type: ignore[attr-defined]
        assert sum(groups[-1]) == 330 - corpus_decoder.count(kept, text)[1] - _repeats(kept, text)
        _decode(job, text, tmp_path / f"stop-{stop}")
        assert _bytes(tmp_path / f"stop-{stop}") == _bytes(tmp_path / "whole")
    assert groups == [[40], [40] * 2, [40] * 5]


def _repeats(kept: NbestCache, text: Path) -> int:
    """Lines with a list whose source stands further up too."""
    sources = [pair.source for pair in bitext.read(text)]
    missing = set(kept.missing(sources).values())
    found = [source for source in sources if source not in missing]
    return len(found) - len(set(found))


def test_groups_are_the_same_whenever_the_lists_of_earlier_ones_are_added(job: DecodingJob, tmp_path: Path) -> None:
    """At once, late, or two groups late as with two processes: no source is handed out twice."""
    text = _text(tmp_path / "reference.tsv", _texts(500))
    handed = []
    for delay in (0, 1, 4, 99):
        kept = nbest_cache.open_cache(tmp_path / f"delay-{delay}")
        waiting: list[list[str]] = []
        found: list[list[str]] = []
        for group in corpus_decoder.missing(kept, text):
            found.append(group)
            waiting.append(group)
            while len(waiting) > delay:
                kept.add(nbest_cache.entry(source, [nbest.Hypothesis((4,), -1.0, True)]) for source in waiting.pop(0))
        handed.append(found)
    assert all(groups == handed[0] for groups in handed)
    flat = [source for group in handed[0] for source in group]
    assert flat == list(dict.fromkeys(pair.source for pair in bitext.read(text)))


def test_an_entry_damaged_after_it_was_made_is_decoded_anew(job: DecodingJob, tmp_path: Path) -> None:
    text = _text(tmp_path / "reference.tsv", _texts(120))
    _decode(job, text, tmp_path / "before")
    kept = corpus_decoder.open_cache(job)
    with kept._opened() as file:
        file.execute("UPDATE lines SET list = substr(list, 1, 20) WHERE source = ?", (nbest_cache.key(_texts(120)[7]),))
    assert _decode(job, text, tmp_path / "after") == 1
    ours, theirs = (
        [
            it.ids
            for _, found in nbest.read_part(tmp_path / name / "part-00000.tsv.gz", bitext.read(text)[:100])
            for it in found
        ]
        for name in ("before", "after")
    )
    assert ours == theirs


def test_what_is_kept_is_accounted_for(job: DecodingJob) -> None:
    kept = corpus_decoder.open_cache(job)
    kept.add([nbest_cache.entry("a cat", [nbest.Hypothesis((4,), -1.0, True)])])
    megabytes = kept.path.stat().st_size / 1e6
    (kept.path.parent.parent / "older").mkdir()
    (kept.path.parent.parent / "older" / "lines-1.sqlite").write_bytes(bytes(3_000_000))
    told = corpus_decoder.cache_summary(kept)
    assert f"({megabytes:.1f} of {megabytes + 3:.1f} MB in {Path.cwd() / '.decoded'}; delete the folder" in told


def test_ids_that_fall_are_refused_before_anything_is_decoded(job: DecodingJob, tmp_path: Path) -> None:
    path = tmp_path / "reference.tsv"
    path.write_text("3\ta cat\tx\n2\ta dog\ty\n")
    with pytest.raises(InputError, match=r"gold\.tsv, line 2: id 2 comes after id 3"):
        _decode(job, path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


# The command, killed.


@pytest.fixture(scope="module")
def project(teacher: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which `seqkd decode k3` decodes 2600 lines, and what it writes undisturbed."""
    folder = tmp_path_factory.mktemp("killed")
    values = yaml.safe_load((ROOT / "params.yaml").read_text())
    rows = {"k3": {"beam": 3}}
    selected = {name: {**row, "nbest": "k3"} for name, row in values["select"].items()}
    (folder / "params.yaml").write_text(yaml.safe_dump({**values, "decode": rows, "select": selected}))
    generator = random.Random(5)
    _text(
        folder / "reference.tsv", [" ".join(generator.choices(WORDS, k=generator.randint(3, 12))) for _ in range(2600)]
    )
    with _decoding(folder, teacher, "whole", processes=1) as running:
        assert running.wait() == 0
    _forget(folder)
    return folder


def _decoding(folder: Path, teacher: Path, out: str, *, processes: int) -> subprocess.Popen[bytes]:
    (folder / "machine.yaml").write_text(f"processes: {processes}\ndevice: cpu\n")
    command = [sys.executable, "-m", "seqkd", "decode", "k3", "--teacher", str(teacher)]
    command += ["--text", "reference.tsv", "--out", out]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def _forget(folder: Path) -> None:
    for path in folder.glob(".decoded/*/*"):
        path.unlink()


def _added(folder: Path) -> Iterator[int]:
    """Bytes in the archive so far, again and again, as a run goes on."""
    while True:
        yield sum(path.stat().st_size for path in folder.glob(".decoded/*/*.sqlite"))
        time.sleep(0.01)


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2])
def test_a_decode_killed_again_and_again_ends_in_the_bits_of_an_undisturbed_one(
    project: Path, teacher: Path, processes: int
) -> None:
    generator, out = random.Random(processes), f"killed-{processes}"
    kills = 0
    while True:
        with _decoding(project, teacher, out, processes=processes) as running:
            before = next(_added(project))
            for size in _added(project):
                if size > before or running.poll() is not None:
                    break
            time.sleep(generator.random() * 0.3)
            if kills < 2 and running.poll() is None:
                running.send_signal(signal.SIGKILL)
                kills += 1
                continue
            assert running.wait() == 0
            break
    assert kills >= 1
    assert _bytes(project / out / "k3") == _bytes(project / "whole" / "k3")
    _forget(project)


def test_two_decodes_at_once_share_their_lists(project: Path, teacher: Path) -> None:
    with _decoding(project, teacher, "one", processes=1) as one, _decoding(project, teacher, "two", processes=1) as two:
        assert one.wait() == two.wait() == 0
    assert _bytes(project / "one" / "k3") == _bytes(project / "two" / "k3") == _bytes(project / "whole" / "k3")
    _forget(project)


def test_the_default_machine_has_a_budget() -> None:
    assert schema.Machine().max_batch_hypotheses == 1500
