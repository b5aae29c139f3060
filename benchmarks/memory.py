"""The memory and time of each stage by the size of the corpus, as the table of docs/scale.md.

python -m benchmarks.memory --data FOLDER --lines 100000,1000000

FOLDER has train.en, train.de and so on, perhaps compressed. Its lines are repeated, each with its number at the end, so
that no two are equal. Training and decoding, which would take days, are stopped: memory has its peak by then.
"""

import json
import os
import random
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import nullcontext, suppress
from itertools import cycle, islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any, NamedTuple, cast

import psutil
import torch
import typer
from tabulate import tabulate

from seqkd.config import load, yaml_file
from seqkd.corpora import folder, text_file
from seqkd.data import bitext, nbest, vocab
from seqkd.data.nbest import Hypothesis
from seqkd.models import checkpoint
from seqkd.training import run
from seqkd.utils.errors import InputError

ROOT = Path(__file__).resolve().parent.parent
INTERVAL = 0.1  # seconds between two looks at memory
STOPPED = ("train", "decode")
STAGES = "preprocess,vocab,train,decode,select"
TEXT, PIECES = "reference.tsv", "joint.model"
COMMANDS = {
    "preprocess": f"--reference {TEXT} --out data --downloads downloads",
    "vocab": f"--text {TEXT} --out {PIECES}",
    "train": f"baseline --role student --text {TEXT} --corpus data --vocabulary {PIECES} --curve curve --out baseline",
    "decode": f"lists --teacher teacher --text {TEXT} --out decoded",
    "select": f"near --lists made-up --reference {TEXT} --vocab {PIECES} --dev data/dev.tsv --texts texts --audits .",
}

Data = Annotated[Path, typer.Option(help="A folder of train.SOURCE and train.TARGET.")]
Lines = Annotated[str, typer.Option(help="Sizes of the corpus, with commas between them.")]
Stages = Annotated[str, typer.Option(help="Which of the stages, with commas between them; each needs those before it.")]
Languages = Annotated[str, typer.Option(help="Source and target, as in the names of the folder's files.")]
Keep = Annotated[Path | None, typer.Option(help="The folder of all files; default: a temporary one.")]
Seconds = Annotated[int, typer.Option(help="For which training and decoding work before they are stopped.")]
Beam = Annotated[int, typer.Option(help="Hypotheses of the search, and of the lists to select from.")]
Processes = Annotated[int, typer.Option(help="Processes of each stage.")]


class Peak(NamedTuple):
    """What a stage took at most."""

    own: int = 0  # bytes of all its processes that the system cannot take back, shared pages once
    mapped: int = 0  # bytes of files that are mapped into its memory, which the system drops when it needs room
    seconds: float = 0.0  # of processor time, so that a busy neighbour counts little


def main(
    *,
    data: Data,
    lines: Lines = "100000",
    stages: Stages = STAGES,
    languages: Languages = "en,de",
    keep: Keep = None,
    seconds: Seconds = 60,
    beam: Beam = 5,
    processes: Processes = 1,
) -> None:
    """Run the stages on a corpus of each size, and print a table."""
    wanted, peaks = [stage for stage in STAGES.split(",") if stage in stages.split(",")], dict[tuple[str, int], Peak]()
    sizes = [int(size) for size in lines.split(",")]
    for size in sizes:
        with TemporaryDirectory(dir="/var/tmp") if keep is None else nullcontext(keep / str(size)) as place:
            project = Path(place).absolute()
            make_project(project, beam=beam, seconds=seconds, processes=processes, languages=languages)
            make_corpus(data, project / "corpus", lines=size, languages=languages)
            for stage in wanted:
                peaks[stage, size] = measure(stage, project, seconds=seconds, beam=beam)
                print(f"{stage}, {size:,} lines: {peaks[stage, size].own / 1e6:,.0f} MB", file=sys.stderr, flush=True)
    print(table(wanted, sizes, peaks, seconds=seconds))


def make_project(project: Path, *, beam: int, seconds: int, processes: int, languages: str) -> None:
    """Write the settings: a 2x64 teacher, one list, one text to select."""
    project.mkdir(parents=True, exist_ok=True)
    params = cast(dict[str, Any], yaml_file.read(ROOT / "params.yaml"))
    source, target = languages.split(",")
    params["data"] |= {"corpus": "corpus", "source": source, "target": target}
    params["data"].pop("monolingual", None)
    params["student"]["size"] = "2x64"
    params["teacher"] = params["student"]
    params |= {"decode": {"lists": {"beam": beam}}, "select": {"near": {"nbest": "lists", "metric": "bleu"}}}
    params |= {"mix": {}, "distill": {"whole": {"train_text": "near", "alpha": 0.0}}, "finetune": {}}
    params["prune"] = {"model": "whole", "ratios": [0.5], "retrain": "near", "finetune": "near"}
    params["speed"] = {"models": ["teacher", "baseline"], "sentences": 4, "rounds": 1}
    (project / "params.yaml").write_text(json.dumps(params), encoding="utf-8")
    machine = {"device": "cpu", "processes": processes, "checkpoint_interval": seconds}
    (project / "machine.yaml").write_text(json.dumps(machine), encoding="utf-8")


def make_corpus(data: Path, out: Path, *, lines: int, languages: str) -> None:
    """Write a corpus of so many lines, the folder's again and again, each with its number."""
    source, target = languages.split(",")
    out.mkdir(exist_ok=True)
    for path, language in zip(folder.find(data, source=source, target=target).parts["train"], (source, target)):  # noqa: B905
        texts = list(text_file.read_lines(path))
        with (out / f"train.{language}").open("w", encoding="utf-8") as file:
            file.writelines(f"{text} {number}\n" for number, text in enumerate(islice(cycle(texts), lines)))


def measure(stage: str, project: Path, *, seconds: int, beam: int) -> Peak:
    """Run a stage, which is stopped once it has worked for so many seconds where it is one of STOPPED."""
    if stage == "decode":
        make_teacher(project)
    if stage == "select":
        make_lists(project, beam=beam)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "seqkd", stage, *COMMANDS[stage].split()]
    with subprocess.Popen(command, cwd=project, env=environment, stdout=subprocess.DEVNULL) as running:
        # The first state of a training and the first lists tell that all is read and the work goes on.
        peak = watch(running, {"train": ".resume/*/state-*", "decode": ".decoded/*/*"}.get(stage), project, seconds)
    if running.returncode and stage not in STOPPED:
        raise InputError(f"{stage} failed in {project}; what it said stands above.")
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return peak._replace(seconds=used.ru_utime + used.ru_stime - before.ru_utime - before.ru_stime)


def watch(running: "subprocess.Popen[bytes]", sign: str | None, project: Path, seconds: int) -> Peak:
    """Return the most that a running stage and its children hold. sign: the files that tell when to stop it."""
    peak, process, end = Peak(), psutil.Process(running.pid), float("inf")
    while running.poll() is None:
        with suppress(psutil.Error):
            held = [held_bytes(each.pid) for each in (process, *process.children(recursive=True))]
            peak = Peak(max(peak.own, sum(own for own, _ in held)), max(peak.mapped, sum(file for _, file in held)))
        if sign and end == float("inf") and any(project.glob(sign)):
            end = time.monotonic() + seconds
        if time.monotonic() > end:
            running.send_signal(signal.SIGTERM)  # a shell lets what it starts in the background ignore SIGINT
            end = float("inf")
            sign = None
        time.sleep(INTERVAL)
    return peak


def held_bytes(process: int) -> tuple[int, int]:
    """Return what a process holds of its own, and of mapped files; its share of what others hold too."""
    try:
        text = Path(f"/proc/{process}/smaps_rollup").read_text()
    except OSError:  # it has ended
        return 0, 0
    sizes = {name: 1024 * int(size.split()[0]) for name, size in (line.split(":") for line in text.splitlines()[1:])}
    return sizes["Pss_Anon"] + sizes["Pss_Shmem"], sizes["Pss_File"]


def make_teacher(project: Path) -> None:
    """Write a teacher that has learnt nothing, unless there is one: it takes as much memory as another."""
    if not (project / "teacher").exists():
        params = load.params(project / "params.yaml")
        pieces = vocab.load(project / PIECES)
        model = run.init_model(pieces, params.teacher, seed=1, device=torch.device("cpu"))
        checkpoint.save(project / "teacher", model, card="")


def make_lists(project: Path, *, beam: int) -> None:
    """Write lists of so many hypotheses for every line, unless they are there: the target, its pieces shuffled."""
    out, pieces, draw = project / "made-up" / "lists", vocab.load(project / PIECES), random.Random(1)
    if out.exists():
        return
    out.mkdir(parents=True)
    for number, pairs in enumerate(nbest.chunks(bitext.stream(project / TEXT))):
        lists = (list(shuffled(pieces.encode(pair.target, pair.source), beam, draw)) for pair in pairs)
        nbest.write_part(out, number, zip(pairs, lists, strict=True))


def shuffled(ids: list[int], count: int, draw: random.Random) -> Iterator[Hypothesis]:
    return (Hypothesis(tuple(draw.sample(ids, len(ids))), -1.0, True) for _ in range(count))


def table(stages: Iterable[str], sizes: list[int], peaks: dict[tuple[str, int], Peak], *, seconds: int) -> str:
    """Return the peaks as a table in Markdown, a row for each stage and size."""
    rows = []
    for stage in stages:
        for number, size in enumerate(sizes):
            own, mapped, spent = peaks[stage, size]
            less = sizes[number - 1]
            growth = f"{(own - peaks[stage, less].own) / (size - less):.1f}" if number else ""
            told = f"stopped after {seconds} s" if stage in STOPPED else f"{spent:,.0f}"
            rows.append([stage, f"{size:,}", f"{own / 1e6:,.0f}", growth, f"{mapped / 1e6:,.0f}", told])
    headings = ["stage", "lines", "memory, MB", "growth, bytes a line", "mapped files, MB", "processor time, s"]
    return tabulate(rows, headings, tablefmt="github", disable_numparse=True, colalign=("left", *["right"] * 5))


if __name__ == "__main__":
    typer.run(main)
