"""seqkd translate: a line out for each line in, in order, as they come."""

import os
import re
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
import torch
from networks import PLACEHOLDERS, save_untrained_model, untrained_model
from networks import TEXT as PIECES
from source_tree import ROOT

from seqkd.config.machine import Machine
from seqkd.decoding import translator
from seqkd.decoding.translator import DecodingJob
from seqkd.models import checkpoint
from seqkd.utils import pool
from stages import translate

pytestmark = pytest.mark.slow

TEXT = ["the cat sat on the mat", "a dog ran", "", "the dog sat", "a cat ran on the mat", "the mat"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of an untrained model: its answers are nonsense, but the same each time."""
    return save_untrained_model(tmp_path_factory.mktemp("model"), TEXT)


def translate_bytes(folder: Path, text: bytes, *options: str) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "seqkd", "translate", "--model", str(folder), *options]
    return subprocess.run(command, input=text, capture_output=True, check=False)


def test_translate_writes_lines_in_order_with_any_number_of_processes(folder: Path) -> None:
    one = translate_bytes(folder, "\n".join(TEXT).encode())
    two = translate_bytes(folder, ("\n".join(TEXT) + "\n").encode(), "--processes", "2")
    assert one.returncode == 0
    assert one.stdout == two.stdout
    lines = one.stdout.decode().splitlines()
    assert len(lines) == len(TEXT)
    assert lines[2] == ""
    expected = translator.best_hypotheses(
        DecodingJob(folder, Machine(processes=1), 5, length_penalty=1.0, sources=TEXT), label="test"
    )
    pieces = checkpoint.load(folder).vocab
    assert lines == [pieces.decode(hypothesis.ids, "") for hypothesis in expected]


def test_translate_reads_every_line_in_its_normal_form(folder: Path) -> None:
    plain = ["the cat sat on the mat", "the cat sat", "the cat sat", "", "", "", "a dog"]
    written = ["the cat\vsat\x1con \x85 the\u2028mat\u3000", "\ufeffthe cat sat\x07", "the cat sat"]
    written += ["\u00ad", "\u200d", "\ufe0f", "a dog"]
    same = [translate_bytes(folder, "\n".join(lines).encode()).stdout for lines in (plain, written)]
    assert same[0] == same[1]


def test_translate_gives_canonically_equal_spellings_one_translation(folder: Path) -> None:
    spellings = ["sa\u00df \u1ec7", "sa\u00df e\u0323\u0302", "sa\u00df \u00ea\u0323", "sa\u00df e\u0302\u0323"]
    lines = translate_bytes(folder, "\n".join(spellings).encode()).stdout.splitlines()
    assert len(lines) == 4
    assert len(set(lines)) == 1


@pytest.mark.parametrize("processes", ["1", "2"])
def test_translate_gives_each_line_its_own_placeholders_back(tmp_path: Path, processes: str) -> None:
    model = untrained_model(tmp_path, texts=[*PIECES, PLACEHOLDERS])
    checkpoint.save(tmp_path / "m", model, card="")
    count = 600  # more than a job holds
    lines = "".join(f"{PLACEHOLDERS.replace('}', f'of{number}}}')}\n" for number in range(count))
    done = translate_bytes(tmp_path / "m", lines.encode(), "--beam", "1", "--processes", processes)
    assert done.stderr == b""
    first, *others = done.stdout.decode().splitlines()
    assert "of0}" in first
    assert others == [first.replace("of0}", f"of{number}}}") for number in range(1, count)]


def test_translate_counts_characters_that_are_no_pieces_on_stderr(folder: Path) -> None:
    done = translate_bytes(folder, "the cat 😀\nsat € 😀\n".encode())
    assert done.stderr.decode().endswith(
        "3 characters are no pieces of the vocabulary, so their translation is a guess: 😀 €\n"
    )
    assert translate_bytes(folder, b"the cat\n").stderr == b""


@pytest.mark.skipif(sys.platform != "linux", reason="/proc tells the memory on Linux alone")
def test_translator_jobs_like_those_before_take_no_more_memory(folder: Path) -> None:
    job = DecodingJob(folder, Machine(processes=1, device="cpu"), 3)
    jobs = [job._replace(sources=[TEXT[(size + row) % 6] for row in range(20 * size)]) for size in range(1, 6)]
    held = []
    for _ in range(4):
        for _ in range(10):
            list(pool.map_streamed(translator.run, jobs, processes=1))
        held.append(psutil.Process().memory_info().rss)
    assert max(held[1:]) - held[0] < 3 << 20


def test_best_hypotheses_are_the_same_bits_with_any_number_of_processes(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(translator, "CHUNK_SIZE", 20)
    sources = [" ".join(TEXT[(word + row) % 6] for word in range(row % 5)) for row in range(150)]
    one, *others = (
        translator.best_hypotheses(
            DecodingJob(folder, Machine(processes=processes, device="cpu"), 2, sources=sources), label="test"
        )
        for processes in (1, 2, 3)
    )
    assert others == [one, one]
    alone = [
        translator.best_hypotheses(
            DecodingJob(folder, Machine(processes=1, device="cpu"), 2, sources=[source]), label="test"
        )
        for source in sources[:9]
    ]
    assert [best.ids for (best,) in alone] == [best.ids for best in one[:9]]


@pytest.mark.parametrize("processes", ["1", "2"])
def test_translate_answers_a_line_before_the_next_one_comes(folder: Path, processes: str) -> None:
    command = [
        sys.executable,
        "-m",
        "seqkd",
        "translate",
        "--model",
        str(folder),
        "--beam",
        "1",
        "--processes",
        processes,
    ]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as running:
        assert running.stdin is not None
        assert running.stdout is not None
        for line in ("a dog ran\n", "the dog sat\n"):
            running.stdin.write(line.encode())
            running.stdin.flush()
            assert running.stdout.readline().endswith(b"\n")
        running.stdin.close()
    assert running.returncode == 0


def test_translate_refuses_bad_bytes_and_an_absent_model_in_one_sentence(folder: Path, tmp_path: Path) -> None:
    bad = translate_bytes(folder, b"a dog ran\n\xff\n")
    assert bad.returncode == 1
    assert b"line 2: not UTF-8" in bad.stderr
    assert b"Traceback" not in bad.stderr
    absent = translate_bytes(tmp_path / "nothing", b"")
    assert absent.returncode == 1
    assert absent.stderr.count(b"\n") == 1


def test_translate_refuses_a_model_whose_weights_are_too_large_in_one_sentence(folder: Path, tmp_path: Path) -> None:
    made = checkpoint.load(folder)
    with torch.no_grad():
        for parameter in made.network.parameters():
            parameter.fill_(3e38)
    checkpoint.save(tmp_path / "m", made, card="")
    refused = translate_bytes(tmp_path / "m", b"a dog ran\n")
    assert (refused.returncode, refused.stdout) == (1, b"")
    sentence = f"{tmp_path}/m: its weights are so large that it gives no numbers; train the model anew."
    assert refused.stderr.decode() == f"seqkd translate: {sentence}\n"


def test_translate_reports_a_closed_standard_input_in_one_sentence(folder: Path) -> None:
    command = f"{sys.executable} -m seqkd translate --model {folder} <&-"
    closed = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False)
    assert closed.returncode == 1
    assert closed.stderr == "seqkd translate: standard input is closed or cannot be read; pipe text into it.\n"


@pytest.mark.parametrize("processes", ["1", "2"])
def test_translate_ends_quietly_when_its_reader_leaves_early(folder: Path, processes: str) -> None:
    command = f"yes 'a dog ran' | {sys.executable} -m seqkd translate --model {folder} --processes {processes} --beam 1"
    left = subprocess.run(
        ["sh", "-c", f"{command} | head -n 3"], capture_output=True, text=True, check=False, timeout=120
    )
    assert left.stdout.count("\n") == 3
    assert left.stderr == ""


def test_translate_cuts_a_line_of_too_many_bytes_and_says_so(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    reading, writing = os.pipe()
    monkeypatch.setattr(translate, "MAX_LINE_BYTES", 15)
    monkeypatch.setattr("sys.stdin", os.fdopen(reading))
    with os.fdopen(writing, "wb") as text:
        text.write(b"a dog ran\nthe cat sat on\xc3\xa9 the mat\nthe cat sat on\nthe dog")
    chunks = list(translate._read_chunks(checkpoint.load(folder).vocab))
    assert chunks == [["a dog ran", "the cat sat on", "the cat sat on"], ["the dog"]]
    said = "standard input, line 2: so long that only its beginning is translated, at most 1,000 pieces"
    assert capfd.readouterr().err == f"{said}; break it into sentences.\n"


@pytest.mark.parametrize("processes", ["1", "2"])
def test_translate_of_a_word_of_16_000_letters_is_that_of_its_first_1_000_pieces(folder: Path, processes: str) -> None:
    word = "e" * 16_000  # no piece has two of them, none a space before one
    pieces = checkpoint.load(folder).vocab
    assert pieces.exceeds(word, 15_000)
    options = ("--beam", "1", "--processes", processes)
    cut = translate_bytes(folder, f"a dog ran\n{word}\nthe mat\n".encode(), *options)
    whole = translate_bytes(folder, f"a dog ran\n{'e' * 999}\nthe mat\n".encode(), *options)  # and a space in front
    assert cut.stdout == whole.stdout
    said = "standard input, line 2: so long that only its beginning is translated, at most 1,000 pieces"
    assert cut.stderr.decode() == f"{said}; break it into sentences.\n"
    assert whole.stderr == b""


def test_report_long_lines_counts_them_and_names_the_first(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    pieces, path = checkpoint.load(folder).vocab, Path("test.tsv")
    translator.report_long_lines(TEXT, pieces, where=path)
    assert capfd.readouterr().err == ""
    translator.report_long_lines([*TEXT, "the " * 1001], pieces, where=path)
    beginning = "only the beginning is translated; break such lines into sentences.\n"
    said = f"test.tsv: 1 line has more than 1,000 pieces, the first is line 7: {beginning}"
    assert capfd.readouterr().err == said
    translator.report_long_lines(["e" * 1000, "a dog", "e" * 1000], pieces, where=path)
    said = f"test.tsv: 2 lines have more than 1,000 pieces, the first is line 1: {beginning}"
    assert capfd.readouterr().err == said


@pytest.mark.parametrize("processes", ["1", "2"])
def test_translate_of_a_long_stream_is_complete_in_order_and_in_constant_memory(processes: str) -> None:
    """The benchmark, which fails for a line lost or out of order, with fewer lines."""
    command = [sys.executable, "-m", "benchmarks.soak", "--lines", "6000", "--processes", processes]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    held = [float(found) for found in re.findall(r"([\d.]+) MB", done.stdout.replace(",", ""))]
    assert len(held) == 10
    assert held[-1] < 1.1 * held[4]


def _peak_memory(folder: Path, text: bytes) -> int:
    """Return the most bytes that a greedy translation held; each line has its answer."""
    command = [sys.executable, "-m", "seqkd", "translate", "--model", str(folder), "--beam", "1"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as running:
        assert running.stdin is not None
        assert running.stdout is not None
        running.stdin.write(text)
        running.stdin.close()
        assert running.stdout.read().count(b"\n") == text.count(b"\n")
        _, status, used = os.wait4(running.pid, 0)
        running.returncode = os.waitstatus_to_exitcode(status)
        assert running.returncode == 0
    return used.ru_maxrss * 1024


@pytest.mark.skipif(sys.platform != "linux", reason="counts as Linux does")
def test_translate_of_a_line_of_10_megabytes_takes_hardly_more_memory_than_a_short_one(folder: Path) -> None:
    short = _peak_memory(folder, b"a dog ran\n" * 3)
    assert _peak_memory(folder, b"a dog ran\n" + b"a dog " * 1_700_000 + b"\nthe cat sat\n") < short + 100_000_000
