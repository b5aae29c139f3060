"""The peers' processes: a question a line, an answer a line. They live in their own environments (peers.sh)."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any, Self

import numpy as np

from benchmarks.material import BATCH, Material
from seqkd.models.lstm import LSTMNetwork
from seqkd.utils.errors import InputError

HERE = Path(__file__).resolve().parent


class Peer:
    """A script running in a peer's environment until it is closed."""

    def __init__(self, keep: Path, environment: str, script: str, *arguments: str, log: Path) -> None:
        python = keep / environment / "bin" / "python"
        if not (keep / environment / "installed").exists():
            raise InputError(f"{environment} is not installed in {keep}; run benchmarks/peers.sh.")
        plain = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
        self.log = log
        with log.open("w") as said:
            command = [str(python), str(HERE / script), *arguments]
            self.process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=said, text=True, env=plain
            )

    def ask(self, question: Any) -> Any:
        """The answer. Raises RuntimeError, with where to look, when the peer has ended."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        try:
            print(json.dumps(question), file=self.process.stdin, flush=True)
            answer = self.process.stdout.readline()
        except BrokenPipeError:
            answer = ""
        if not answer:
            raise RuntimeError(f"{self.process.args!r} ended before its time; {self.log} says why")
        return json.loads(answer)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()


def write_for_onmt(material: Material, network: LSTMNetwork) -> Path:
    """The folder that onmt_peer.py reads: text and vocabulary as pieces named by their numbers, and our weights."""
    folder = material.folder / "onmt"
    folder.mkdir(exist_ok=True)
    shape = network.shape
    (folder / "shape.json").write_text(json.dumps([shape.layers, shape.hidden, BATCH]), encoding="utf-8")
    (folder / "vocabulary.txt").write_text("".join(f"p{at}\t1\n" for at in range(4, shape.vocab)), encoding="utf-8")
    for side, many in (("source", material.text.sources), ("target", material.text.targets)):
        lines = [f"{pieces(ids)}\n" for ids in many]
        (folder / f"train.{side}").write_text("".join(lines), encoding="utf-8")
    weights: dict[str, Any] = {name: value.detach().numpy() for name, value in network.named_parameters()}
    np.savez(folder / "weights.npz", **weights)
    return folder


def pieces(ids: list[int]) -> str:
    """Pieces named by their numbers; the unknown one by a name that no vocabulary has."""
    return " ".join(f"p{number}" for number in ids)


def onmt(material: Material, network: LSTMNetwork, keep: Path, work: str) -> Peer:
    """OpenNMT-py, to train or to translate."""
    folder = write_for_onmt(material, network)
    return Peer(keep, "onmt", "onmt_peer.py", work, str(folder), log=folder / f"{work}.log")


def ctranslate2(material: Material, keep: Path) -> Peer:
    folder = material.folder / "ctranslate2"
    folder.mkdir(exist_ok=True)
    names = "".join(f"p{at}\n" for at in range(4, material.vocab.size))
    (folder / "vocabulary.txt").write_text(names, encoding="utf-8")
    return Peer(keep, "ctranslate2", "ctranslate2_peer.py", str(folder), log=folder / "log.txt")
