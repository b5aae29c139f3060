"""`seqkd translate` under a long stream: whether every line comes out in order, and what memory it holds meanwhile.

python -m benchmarks.soak --lines 200000 --processes 2          # with random weights, 1x32
python -m benchmarks.soak --model models/seq_kd --text data/corpus/test.tsv

The lines of the text are fed again and again. Each must be answered as in the first round. Memory is that of the
command and its processes, shared pages counted in each.
"""

import argparse
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from itertools import chain, cycle, islice
from pathlib import Path
from typing import BinaryIO

import torch

from seqkd.corpora import synthetic
from seqkd.data import bitext, vocab
from seqkd.models import checkpoint, lstm
from seqkd.models.checkpoint import Model


def random_model(folder: Path, lines: list[str]) -> Path:
    """A 1x32 network that has learnt nothing but that sentences end."""
    pieces = vocab.train(lines, folder / "joint.model", size=400)
    network = lstm.LSTMNetwork(lstm.NetworkShape(pieces.size, 1, 32, 0.0))
    network.init_weights(torch.Generator().manual_seed(1), init_range=1.0)
    with torch.no_grad():
        network.output_bias[vocab.EOS] += 3.0
    checkpoint.save(folder / "model", Model(network, pieces, None), card="")
    return folder / "model"


def made_up(count: int) -> list[str]:
    """English sentences of the grammar."""
    chance = random.Random(17)
    return [synthetic.english(synthetic.draw(chance)) for _ in range(count)]


def megabytes(process: int) -> float:
    """Resident memory of a process and its descendants."""
    found = Path(f"/proc/{process}")
    resident = int((found / "statm").read_text().split()[1]) * 4096 / 1e6
    children = chain.from_iterable(task.read_text().split() for task in found.glob("task/*/children"))
    return resident + sum(megabytes(int(child)) for child in children)


def feed(stream: BinaryIO, lines: Iterator[str]) -> None:
    with stream:
        stream.writelines(f"{line}\n".encode() for line in lines)


def soak(command: list[str], lines: list[str], total: int) -> int:
    """Prints memory and rate as the lines come out; how many were not answered as in the first round."""
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as running:
        assert running.stdin is not None
        assert running.stdout is not None
        given = islice(cycle(lines), total)
        threading.Thread(target=feed, args=(running.stdin, given), daemon=True).start()
        first: list[bytes] = []
        wrong = count = 0
        began = time.perf_counter()
        for count, line in enumerate(running.stdout, start=1):
            if count <= len(lines):
                first.append(line)
            wrong += line != first[(count - 1) % len(lines)]
            if count % (total // 10) == 0:
                rate = count / (time.perf_counter() - began)
                print(f"{count:>9,} lines, {megabytes(running.pid):7,.1f} MB, {rate:,.0f} lines/s", flush=True)
    if count != total or running.returncode:
        raise SystemExit(f"{count:,} of {total:,} lines came out; exit status {running.returncode}")
    return wrong


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", type=Path)
    parser.add_argument("--text", type=Path)
    parser.add_argument("--lines", type=int, default=200_000)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--beam", type=int, default=1)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        lines = [pair.source for pair in bitext.read(given.text)] if given.text else made_up(given.lines // 10)
        folder = given.model or random_model(Path(name), lines)
        command = [sys.executable, "-m", "seqkd", "translate", "--model", str(folder)]
        command += ["--beam", str(given.beam), "--processes", str(given.processes)]
        wrong = soak(command, lines, given.lines)
    print(f"{wrong:,} of {given.lines:,} lines other than in the first round")
    if wrong:
        raise SystemExit("lines are out of order, or their answers depend on their neighbours")


if __name__ == "__main__":
    main()
