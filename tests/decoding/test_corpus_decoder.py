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
from typing import Any

import pytest
import torch
import yaml
from source_tree import ROOT

from seqkd.config.machine import Machine
from seqkd.config.schema import SelectSettings
from seqkd.data import bitext, nbest, vocab
from seqkd.data.bitext import Pair
from seqkd.decoding import corpus_decoder, nbest_cache, translator
from seqkd.decoding.nbest_cache import NbestCache
from seqkd.decoding.translator import DecodingJob
from seqkd.models import checkpoint, lstm
from seqkd.models.checkpoint import Model
from seqkd.selection import select
from seqkd.utils import fingerprint
from seqkd.utils.errors import InputError

WORDS = ["the", "a", "cat", "dog", "house", "sat", "ran", "saw", "on", "in", "mat", "garden", "old", "small", "never"]


def _texts(count: int, seed: int = 3) -> list[str]:
    """Return random sentences, some of them twice."""
    generator = random.Random(seed)
    texts = [" ".join(generator.choices(WORDS, k=generator.randint(0, 9))) for _ in range(count)]
    return [generator.choice(texts) if generator.random() < 0.2 else text for text in texts]


def _write_text(path: Path, sources: list[str]) -> Path:
    bitext.write(path, [Pair(2 * index, source, "x") for index, source in enumerate(sources)])
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
    """Do what the stage does; returns how many sources were decoded."""
    cache = corpus_decoder.open_cache(job)
    count = sum(corpus_decoder.decode_missing(cache, text, job))
    corpus_decoder.write(cache, text, out, processes=job.machine.processes)
    return count


def _bytes(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_corpus_decoder_gives_every_line_the_teachers_own_list(job: DecodingJob, tmp_path: Path) -> None:
    sources = _texts(250)
    text = _write_text(tmp_path / "reference.tsv", sources)
    assert _decode(job, text, tmp_path / "k3") == len(set(sources)) < 250
    pairs = bitext.read(text)
    alone = translator.run(job._replace(sources=sources))
    assert [path.name for path in nbest.parts(tmp_path / "k3", lines=250)] == [
        f"part-0000{index}.tsv.gz" for index in range(3)
    ]
    for index, path in enumerate(nbest.parts(tmp_path / "k3", lines=250)):
        for line, hypotheses in nbest.read_part(path, pairs[nbest.positions(index)]):
            expected = alone[line // 2]
            assert [item.ids for item in hypotheses] == [item.ids for item in expected]
            assert [item.logprob for item in hypotheses] == [round(item.logprob, 6) for item in expected]
    assert not list(tmp_path.glob(".k3*"))


def test_lists_without_monolingual_lines_are_decoded_and_chosen_from_like_those_with_them(
    job: DecodingJob, tmp_path: Path
) -> None:
    text, lists = tmp_path / "reference.tsv", tmp_path / "lists"
    bitext.write(text, [Pair(2 * n, each, "the cat" if n % 3 else "") for n, each in enumerate(_texts(250))])
    cache, chosen = corpus_decoder.open_cache(job), {}
    assert corpus_decoder.count(cache, text, monolingual=False) == (166, 166)
    how: dict[str, Any] = {"model": job.model / checkpoint.VOCAB, "tokenizer": "13a", "script": ""}
    for monolingual in (False, True):
        assert list(corpus_decoder.decode_missing(cache, text, job, monolingual=monolingual))
        corpus_decoder.write(cache, text, lists / "k3", processes=1, monolingual=monolingual)
        settings = SelectSettings(nbest="k3", metric="bleu")
        parts = select.choose_all(
            lists, settings, reference=text, monolingual=monolingual, label="x", machine=job.machine, how=how
        )
        chosen[monolingual] = [pair for pairs, _ in parts for pair in pairs]
        assert len(nbest.parts(lists / "k3", lines=250 if monolingual else 166)) == 3 - (not monolingual)
    assert chosen[False] == chosen[True]
    assert len(chosen[False]) == 166


@pytest.mark.parametrize("other", ["precision", "backend"])
def test_translator_gives_the_same_bits_after_a_job_of_another_precision_or_backend(
    job: DecodingJob, other: str
) -> None:
    """A worker of a cluster decodes the training text in bf16, then translates a test set in fp32."""
    job = job._replace(sources=_texts(20))
    machine = job.machine.model_copy(update={"matmul_backend": "torch"})
    changed = job._replace(precision="bf16") if other == "precision" else job._replace(machine=machine)
    alone = translator.run(job)
    assert translator.run(changed) != alone, "both jobs are computed alike here"
    assert translator.run(job) == alone


def test_corpus_decoder_decodes_only_the_new_lines_of_a_text_that_grew(job: DecodingJob, tmp_path: Path) -> None:
    old, new = _texts(200), ["never a cat and a dog and a house", "garden garden garden", "old old old old"]
    _decode(job, _write_text(tmp_path / "old.tsv", old), tmp_path / "old")
    mixed = _write_text(tmp_path / "new.tsv", [new[0], *old[50:], new[1], new[2], new[1]])
    cache = corpus_decoder.open_cache(job)
    assert corpus_decoder.count(cache, mixed) == (154, 4)
    assert list(corpus_decoder.missing(cache, mixed)) == [new]
    assert _decode(job, mixed, tmp_path / "new") == 3
    assert _decode(job, mixed, tmp_path / "again") == 0
    assert _bytes(tmp_path / "new") == _bytes(tmp_path / "again")


def test_open_cache_keeps_other_weights_other_searches_and_other_precisions_apart(
    job: DecodingJob, tmp_path: Path
) -> None:
    save_model(tmp_path / "other", seed=2)
    others = [job, job._replace(model=tmp_path / "other"), job._replace(beam=4), job._replace(nbest=2)]
    others += [job._replace(length_penalty=0.5), job._replace(precision="bf16")]
    assert len({corpus_decoder.open_cache(other).path for other in others}) == len(others)


def test_open_cache_ignores_the_machine_and_the_teachers_card(job: DecodingJob, tmp_path: Path) -> None:
    before = corpus_decoder.open_cache(job).path
    (job.model / "README.md").write_text("another card")
    assert (
        corpus_decoder.open_cache(job._replace(machine=Machine(processes=2, device="cpu", max_batch_hypotheses=7))).path
        == before
    )


def test_open_cache_survives_an_edit_of_a_comment_and_not_one_of_the_search(tmp_path: Path) -> None:
    shutil.copytree(
        ROOT / "seqkd", tmp_path / "seqkd", dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__")
    )
    before, search = fingerprint.of(DECODER), tmp_path / "seqkd/decoding/beam_search.py"
    search.write_text(search.read_text().replace("# a sum of logs only falls", "# it only falls") + "\n# x\n")
    assert fingerprint.of(DECODER, package=tmp_path / "seqkd") == before
    search.write_text(search.read_text().replace("return 2 * source_length + 10", "return 3 * source_length + 10"))
    assert fingerprint.of(DECODER, package=tmp_path / "seqkd") != before


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2])
def test_corpus_decoder_stopped_after_any_chunk_and_resumed_ends_in_the_same_bits(
    job: DecodingJob, tmp_path: Path, processes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = job._replace(machine=Machine(processes=processes, device="cpu"))
    text = _write_text(tmp_path / "reference.tsv", _texts(330))
    _decode(job, text, tmp_path / "whole")
    chunks = []
    for stop in (1, 2, 5):
        monkeypatch.setattr(corpus_decoder, "CACHE_NAME", f"stop-{processes}-{stop}")
        cache = corpus_decoder.open_cache(job)
        filling = corpus_decoder.decode_missing(cache, text, job)
        chunks.append([next(filling) for _ in range(stop)])
        filling.close()  # type: ignore[attr-defined]
        assert sum(chunks[-1]) == 330 - corpus_decoder.count(cache, text)[1] - _repeats(cache, text)
        _decode(job, text, tmp_path / f"stop-{stop}")
        assert _bytes(tmp_path / f"stop-{stop}") == _bytes(tmp_path / "whole")
    assert chunks == [[40], [40] * 2, [40] * 5]


def _repeats(cache: NbestCache, text: Path) -> int:
    """Return the lines with a list whose source stands further up too."""
    sources = [pair.source for pair in bitext.read(text)]
    missing = set(cache.missing(sources).values())
    present = [source for source in sources if source not in missing]
    return len(present) - len(set(present))


def test_missing_yields_the_same_chunks_whenever_the_lists_of_earlier_ones_are_cached_bytes(
    job: DecodingJob, tmp_path: Path
) -> None:
    """At once, late, or four chunks late as with several processes: no source is yielded twice."""
    text = _write_text(tmp_path / "reference.tsv", _texts(500))
    yielded = []
    for delay in (0, 1, 4, 99):
        cache = nbest_cache.open_cache(tmp_path / f"delay-{delay}")
        waiting: list[list[str]] = []
        chunks: list[list[str]] = []
        for chunk in corpus_decoder.missing(cache, text):
            chunks.append(chunk)
            waiting.append(chunk)
            while len(waiting) > delay:
                cache.add(nbest_cache.entry(source, [nbest.Hypothesis((4,), -1.0, True)]) for source in waiting.pop(0))
        yielded.append(chunks)
    assert all(chunks == yielded[0] for chunks in yielded)
    flat = [source for chunk in yielded[0] for source in chunk]
    assert flat == list(dict.fromkeys(pair.source for pair in bitext.read(text)))


def test_corpus_decoder_decodes_a_line_with_a_damaged_entry_again(job: DecodingJob, tmp_path: Path) -> None:
    text = _write_text(tmp_path / "reference.tsv", _texts(120))
    _decode(job, text, tmp_path / "before")
    cache = corpus_decoder.open_cache(job)
    with cache._open() as database:
        database.execute(
            "UPDATE lines SET list = substr(list, 1, 20) WHERE source = ?", (nbest_cache.key(_texts(120)[7]),)
        )
    assert _decode(job, text, tmp_path / "after") == 1
    ours, theirs = (
        [
            item.ids
            for _, nbest_list in nbest.read_part(tmp_path / name / "part-00000.tsv.gz", bitext.read(text)[:100])
            for item in nbest_list
        ]
        for name in ("before", "after")
    )
    assert ours == theirs


def test_cache_summary_names_the_size_and_the_folder(job: DecodingJob) -> None:
    cache = corpus_decoder.open_cache(job)
    cache.add([nbest_cache.entry("a cat", [nbest.Hypothesis((4,), -1.0, True)])])
    megabytes = cache.path.stat().st_size / 1e6
    (cache.path.parent.parent / "older").mkdir()
    (cache.path.parent.parent / "older" / "lines-1.sqlite").write_bytes(bytes(3_000_000))
    summary = corpus_decoder.cache_summary(cache)
    assert f"({megabytes:.1f} of {megabytes + 3:.1f} MB in {Path.cwd() / '.decoded'}; delete the folder" in summary


def test_corpus_decoder_refuses_ids_that_fall_before_anything_is_decoded(job: DecodingJob, tmp_path: Path) -> None:
    path = tmp_path / "reference.tsv"
    path.write_text("3\ta cat\tx\n2\ta dog\ty\n")
    with pytest.raises(InputError, match=r"reference\.tsv, line 2: id 2 comes after id 3"):
        _decode(job, path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.fixture(scope="module")
def project(teacher: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder in which `seqkd decode k3` decodes 2600 lines, with what it writes undisturbed."""
    folder = tmp_path_factory.mktemp("killed")
    values = yaml.safe_load((ROOT / "params.yaml").read_text())
    rows = {"k3": {"beam": 3}}
    selected = {name: {**row, "nbest": "k3"} for name, row in values["select"].items()}
    (folder / "params.yaml").write_text(yaml.safe_dump({**values, "decode": rows, "select": selected}))
    generator = random.Random(5)
    _write_text(
        folder / "reference.tsv", [" ".join(generator.choices(WORDS, k=generator.randint(3, 12))) for _ in range(2600)]
    )
    with _decoding(folder, teacher, "whole", processes=1) as running:
        assert running.wait() == 0
    _clear_cache(folder)
    return folder


def _decoding(folder: Path, teacher: Path, out: str, *, processes: int) -> subprocess.Popen[bytes]:
    (folder / "machine.yaml").write_text(f"processes: {processes}\ndevice: cpu\n")
    command = [sys.executable, "-m", "seqkd", "decode", "k3", "--teacher", str(teacher)]
    command += ["--text", "reference.tsv", "--out", out]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def _clear_cache(folder: Path) -> None:
    for path in folder.glob(".decoded/*/*"):
        path.unlink()


def _cached_bytes(folder: Path) -> Iterator[int]:
    """Yield the bytes in the cache so far, again and again, as a run goes on."""
    while True:
        yield sum(path.stat().st_size for path in folder.glob(".decoded/*/*.sqlite"))
        time.sleep(0.01)


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2])
def test_decode_killed_again_and_again_ends_in_the_bits_of_an_undisturbed_one(
    project: Path, teacher: Path, processes: int
) -> None:
    generator, out = random.Random(processes), f"killed-{processes}"
    kills = 0
    while True:
        with _decoding(project, teacher, out, processes=processes) as running:
            before = next(_cached_bytes(project))
            for size in _cached_bytes(project):
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
    _clear_cache(project)


@pytest.mark.slow
def test_decode_run_twice_at_once_shares_the_lists(project: Path, teacher: Path) -> None:
    with _decoding(project, teacher, "one", processes=1) as one, _decoding(project, teacher, "two", processes=1) as two:
        assert one.wait() == two.wait() == 0
    assert _bytes(project / "one" / "k3") == _bytes(project / "two" / "k3") == _bytes(project / "whole" / "k3")
    _clear_cache(project)


def test_machine_has_a_default_for_the_hypotheses_of_a_batch() -> None:
    assert Machine().max_batch_hypotheses == 1500
