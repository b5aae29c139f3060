"""The first three minutes: a corpus, a teacher and a student that learns from it, made in one folder.

The settings are those of `try.yaml`; the steps are the pipeline's own, called one after the other.
"""

import json
import time
from collections.abc import Sequence
from contextlib import chdir
from pathlib import Path
from typing import NamedTuple

from seqkd.config import load
from seqkd.config.machine import Machine
from seqkd.config.schema import Params
from seqkd.corpora import prepare
from seqkd.data import bitext, vocab
from seqkd.data.bitext import Pair
from seqkd.data.vocab import Vocab
from seqkd.decoding import translator
from seqkd.decoding.translator import DecodingJob
from seqkd.export import pages, scores
from seqkd.models import checkpoint
from seqkd.ops import devices
from seqkd.training import run
from seqkd.training.run import TrainingRun
from seqkd.utils import cache_dir
from seqkd.utils.errors import InputError

TEACHER, STUDENT = Path("models/teacher"), Path("models/student")
CORPUS, REFERENCE, DISTILLED = Path("corpus"), Path("text/reference.tsv"), Path("text/y_hat.tsv")
SETTINGS = "params.yaml"
SHOWN = 3  # sentences that are translated before one's eyes


class Tried(NamedTuple):
    models: list[Path]
    examples: list[str]  # sentences of the test set


def run_all(folder: Path, machine: Machine, *, params: Params | None = None) -> Tried:
    """Make everything in an empty folder and tell each step on standard output.

    params: other settings than those of try.yaml. Raises InputError where the folder holds anything.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder}: is not an empty folder; name a new one.")
    folder.mkdir(parents=True, exist_ok=True)
    with chdir(folder):  # the state of trainings is kept in the working folder
        Path(SETTINGS).write_text(pages.read("seqkd.demo", "try.yaml"), encoding="utf-8")
        Path("grammar.yaml").write_text(pages.read("seqkd.demo", "grammar.yaml"), encoding="utf-8")
        params = params or load.params()
        test = _make_corpus(params)
        pieces = vocab.train(_texts(), Path("vocab.model"), size=params.vocab.size, byte_fallback=True)
        shown = [pair for pair in test if len(pair.source) > 30][:SHOWN]
        _say(2, f"The teacher learns from them: {params.teacher.size}, {params.optim.teacher.epochs} epochs.")
        _train(pieces, params, machine, role="teacher", text=REFERENCE, out=TEACHER)
        _show(TEACHER, machine, shown)
        _say(3, "The teacher translates the training text anew. Its German is simpler than the corpus's.")
        _distill(params, machine)
        _say(4, f"The student learns from that: {params.student.size}, {params.optim.student.epochs} epochs.")
        _train(pieces, params, machine, role="student", text=DISTILLED, out=STUDENT)
        _show(STUDENT, machine, shown)
        _say(5, f"Both translate {len(test)} sentences that neither has seen:")
        for model in (TEACHER, STUDENT):
            print(_measure(model, machine, test), flush=True)
        cache_dir.collect_garbage(time.time())
    return Tried([folder / TEACHER, folder / STUDENT], [pair.source for pair in shown])


def _say(number: int, sentence: str) -> None:
    print(f"\n{number}/5  {sentence}", flush=True)


def _make_corpus(params: Params) -> list[Pair]:
    """Write the corpus as preprocess does, and return its test pairs."""
    parts = prepare.prepare(params.data, seed=params.seed, downloads=Path("downloads"))
    bitext.write(REFERENCE, parts.train)
    bitext.write(CORPUS / "dev.tsv", parts.dev)
    (CORPUS / "about.json").write_text(json.dumps(parts.about, ensure_ascii=False), encoding="utf-8")
    _say(1, f"A small grammar makes {len(parts.train):,} pairs of sentences, such as")
    for pair in parts.train[:2]:
        print(f"       {pair.source}  ->  {pair.target}")
    return list(parts.test)


def _texts() -> list[str]:
    return [text for pair in bitext.stream(REFERENCE) for text in (pair.source, pair.target)]


def _train(pieces: Vocab, params: Params, machine: Machine, *, role: str, text: Path, out: Path) -> None:
    """Train a network of a role's size from random weights on a text."""
    device = devices.configure(machine, params.precision)
    model = run.init_model(pieces, getattr(params, role), seed=params.seed, device=device)
    spec = TrainingRun(role, role, text, CORPUS, init_from=run.RANDOM)
    curve = Path(f"curves/{role}.csv")
    run.train_and_save(model, [spec], params, machine, check=lambda *_: None, out=out, curve_out=curve)


def _translate(model: Path, machine: Machine, sources: Sequence[str]) -> list[str]:
    job = DecodingJob(model.absolute(), machine, beam=5, length_penalty=1.0, sources=sources)
    best = translator.best_hypotheses(job, label=f"{model.name} translates")
    return checkpoint.load(model).vocab.decode_all([hypothesis.ids for hypothesis in best], sources)


def _distill(params: Params, machine: Machine) -> None:
    """Write the training text with the teacher's translations as its targets."""
    pairs = bitext.read(REFERENCE)
    targets = _translate(TEACHER, machine, [pair.source for pair in pairs])
    bitext.write(DISTILLED, [pair._replace(target=target) for pair, target in zip(pairs, targets, strict=True)])
    changed = sum(pair.target != target for pair, target in zip(pairs, targets, strict=True))
    print(f"       {changed:,} of {len(pairs):,} differ from the corpus.")


def _show(model: Path, machine: Machine, pairs: Sequence[Pair]) -> None:
    """Print a few translations of the model."""
    for pair, target in zip(pairs, _translate(model, machine, [pair.source for pair in pairs]), strict=True):
        print(f"       {pair.source}  ->  {target}", flush=True)


def _measure(model: Path, machine: Machine, test: Sequence[Pair]) -> str:
    """Return a line with a model's size and quality."""
    targets = _translate(model, machine, [pair.source for pair in test])
    bleu = scores.estimates(targets, [pair.target for pair in test], language="de")[0]
    size = checkpoint.weights_size(model) / 1e6
    return f"       {model.name:<8} {size:5.2f} MB   BLEU {bleu.value:4.1f} ± {bleu.interval:.1f}"
