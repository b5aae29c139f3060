"""Does a run take what seqkd plan predicts?

python -m benchmarks.plan [STAGE ...]

Plans the run in this folder, where dvc repro has made everything; then runs its stages, or those named (decode@k5),
once more into a folder that is thrown away. Needs a quiet machine. Ends with 1 where time or memory differs from its
prediction by more than half.
"""

import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil
from tabulate import tabulate

from seqkd.config import load
from seqkd.config.schema import Params
from seqkd.planning import plan
from stages.plan import read_sample

FACTOR = 1.5
TRAIN = "--text data/text/reference.tsv --corpus data/corpus --vocabulary data/vocab/joint.model --curve out/curve.csv"
ROW = "--teacher models/teacher --texts data/text --corpus data/corpus --curves out/curves --models out/models"
SELECT = "--lists data/nbest --reference data/text/reference.tsv --vocab data/vocab/joint.model"


def commands(params: Params) -> dict[str, str]:
    """Return each stage's command, by the stage's name in the plan."""
    evaluate = "--models models --test data/corpus/test.tsv --translations out/translations --out out/scores"
    return {
        "train@teacher": f"train teacher --role teacher {TRAIN} --out out/teacher",
        "train@baseline": f"train baseline --role student {TRAIN} --out out/baseline",
        **{f"decode@{row}": f"decode {row} --teacher models/teacher --text data/text/reference.tsv --out out/nbest"
           for row in params.decode},
        **{f"select@{row}": f"select {row} {SELECT} --texts out/text --audits out/audit" for row in params.select},
        **{f"distill@{row}": f"distill {row} {ROW}" for row in params.distill},
        "evaluate teacher": f"evaluate teacher {evaluate}",
        "evaluate student": f"evaluate baseline {evaluate}",
    }  # fmt: skip


def predictions(params: Params) -> dict[str, tuple[float, float]]:
    """Return each stage's seconds without DVC's, and its bytes."""
    sample, _ = read_sample(params, load.machine(), None)
    found = {}
    for stage in plan.stages(sample):
        name, models = stage.name, 1
        if name.startswith("evaluate"):
            models, name = int(name.split()[1]), f"evaluate {name.split()[3]}"
        found[name] = stage.seconds / models - plan.DVC, stage.memory
    return found


def run(command: str, folder: Path) -> tuple[float, float]:
    """Return the seconds of a stage and the peak of its processes in bytes, pages that they share counted once."""
    began, peak = time.perf_counter(), 0
    process = psutil.Popen([sys.executable, "-m", "seqkd", *command.split()], cwd=folder, stderr=subprocess.DEVNULL)
    while process.poll() is None:
        with suppress(psutil.Error):
            children = [child.memory_full_info().uss for child in process.children(recursive=True)]
            peak = max(peak, process.memory_info().rss + sum(children))
        time.sleep(0.1)
    return time.perf_counter() - began, peak


def main(names: list[str]) -> int:
    params = load.params()
    predicted, rows = predictions(params), []
    with TemporaryDirectory() as name:
        for needed in ("data", "models", "params.yaml", "machine.yaml"):
            if Path(needed).exists():
                Path(name, needed).symlink_to(Path(needed).absolute())
        for stage, command in commands(params).items():
            if not names or stage in names:
                rows.append((stage, *predicted[stage], *run(command, Path(name))))
    ratios = [(time / taken, memory / peak) for _, time, memory, taken, peak in rows]
    shown = [(stage, time, taken, time / taken, memory / 1e6, peak / 1e6, memory / peak)
             for stage, time, memory, taken, peak in rows]  # fmt: skip
    headers = ["stage", "predicted, s", "taken, s", "ratio", "predicted, MB", "taken, MB", "ratio"]
    print(tabulate(shown, headers=headers, floatfmt=("", ".1f", ".1f", ".2f", ".0f", ".0f", ".2f")))
    return int(any(not 1 / FACTOR < ratio < FACTOR for pair in ratios for ratio in pair))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
