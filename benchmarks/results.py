"""python -m benchmarks.results run CORPUS: the recipe on a corpus, with several seeds; page: docs/results.md of all.

A run is `dvc repro` in a clone of its own, under .results, with the settings of configs/CORPUS.yaml. One that was
interrupted goes on. Its tables go to reports/results/CORPUS, which the page is made of.
"""

import json
import os
import shutil
import subprocess
import sys
from datetime import date
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
import torch
import typer
from tabulate import tabulate

from seqkd.config import load, overlay
from seqkd.config.schema import Params
from seqkd.ops import devices
from seqkd.utils import atomic

ROOT = Path(__file__).resolve().parent.parent
CLONES, RESULTS, PAGE = ROOT / ".results", ROOT / "reports" / "results", ROOT / "docs" / "results.md"
DEFAULT = "default"  # the corpus of params.yaml; its settings need no file
SIGNIFICANT = 0.01

app = typer.Typer(add_completion=False, help=__doc__)
Corpus = Annotated[str, typer.Argument(help="default, or the name of a file in configs/, such as multi30k.")]
Data = Annotated[str, typer.Option(help="What data.corpus is to name in place of the settings' recipe.")]
Seeds = Annotated[str, typer.Option(help="The seeds of the trainings, with commas between them.")]


@app.command()
def run(corpus: Corpus, *, data: Data = "", seeds: Seeds = "17,18,19") -> None:
    """Run the recipe with each seed, collect the tables, write the page."""
    for seed in map(int, seeds.split(",")):
        clone = prepare_clone(corpus, seed=seed, data=data)
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        subprocess.run([sys.executable, "-m", "dvc", "repro"], cwd=clone, env=os.environ | {"PATH": path}, check=True)
        collect(clone, RESULTS / corpus, seed=seed)
        page()


@app.command()
def page() -> None:
    """Write the tables of all runs into docs/results.md, between the marks of their corpora; all other text stays."""
    with atomic.open_text(PAGE) as file:
        file.write(with_tables(PAGE.read_text(encoding="utf-8")))


def prepare_clone(corpus: str, *, seed: int, data: str) -> Path:
    """Return a clone of the last commit with the settings of a corpus and a seed; what it has made already stays."""
    clone = CLONES / f"{corpus}-{seed}"
    if not clone.exists():
        git("clone", "--quiet", "--shared", str(ROOT), str(clone), folder=ROOT)
    git("fetch", "--quiet", folder=clone)
    git("reset", "--quiet", "--hard", git("rev-parse", "HEAD", folder=ROOT), folder=clone)
    downloads, machine = Path(".dvc/tmp/downloads"), Path("machine.yaml")
    if (ROOT / downloads).exists() and not (clone / downloads).exists():
        (clone / downloads).parent.mkdir(parents=True, exist_ok=True)
        (clone / downloads).symlink_to(ROOT / downloads)
    (clone / machine).unlink(missing_ok=True)
    if (ROOT / machine).exists():
        shutil.copy(ROOT / machine, clone / machine)
    if corpus != DEFAULT:
        overlay.apply(ROOT / "configs" / f"{corpus}.yaml", params=clone / "params.yaml")
    changes = clone / ".dvc" / "tmp" / "seed.yaml"
    changes.parent.mkdir(exist_ok=True)
    changes.write_text(json.dumps({"seed": seed} | ({"data": {"corpus": data}} if data else {})), encoding="utf-8")
    overlay.apply(changes, params=clone / "params.yaml")
    return clone


def git(*arguments: str, folder: Path) -> str:
    """Return what git prints."""
    done = subprocess.run(["git", "-C", str(folder), *arguments], stdout=subprocess.PIPE, text=True, check=True)
    return done.stdout.strip()


def collect(clone: Path, folder: Path, *, seed: int) -> None:
    """Add the tables of a run, and what it was, to those of its corpus."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("table1.csv", "table3.csv"):
        rows = pd.read_csv(clone / "reports" / name)
        rows.insert(0, "seed", seed)
        if (folder / name).exists():
            others = pd.read_csv(folder / name)
            rows = pd.concat([others[others["seed"] != seed], rows]).sort_values("seed", kind="stable")
        with atomic.open_text(folder / name) as file:
            rows.to_csv(file, index=False, float_format="%.10g")
    path = folder / "about.json"
    about = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    about[str(seed)] = facts(load.params(clone / "params.yaml"), clone)
    with atomic.open_text(path) as file:
        json.dump(about, file, indent=2, sort_keys=True)
        file.write("\n")


def facts(params: Params, clone: Path) -> dict[str, Any]:
    """Return what a run was: its text, its networks, its machine."""
    about = json.loads((clone / "data" / "corpus" / "about.json").read_text(encoding="utf-8"))
    return {
        "commit": git("rev-parse", "--short=10", "HEAD", folder=clone),
        "corpus": about["corpus"] if about["corpus"].startswith("corpora/") else "a folder",
        "date": date.today().isoformat(),
        "languages": [params.data.source, params.data.target],
        "pairs": about["pairs"],
        "pieces": params.vocab.size,
        "processor": devices.device_name(torch.device("cpu")),
        "student": params.student.described,
        "student_epochs": params.optim.student.epochs,
        "teacher": params.teacher.described,
        "teacher_epochs": params.optim.teacher.epochs,
    }


def with_tables(text: str) -> str:
    """Return the page with the tables of reports/results between `<!-- CORPUS -->` and `<!-- /CORPUS -->`.

    A corpus that the page has no marks for gets a section at its end.
    """
    for folder in sorted(path for path in RESULTS.iterdir() if path.is_dir()):
        start, end = f"<!-- {folder.name} -->\n", f"<!-- /{folder.name} -->"
        if start not in text:
            text += f"\n## {folder.name}\n\n{start}{end}\n"
        before, _, rest = text.partition(start)
        body = "\n\n".join([described(folder), method_table(folder), pruning_table(folder)])
        text = f"{before}{start}\n{body}\n\n{end}{rest.partition(end)[2]}"
    return text


def described(folder: Path) -> str:
    """Return a sentence on the text, the networks and the machine of a corpus's runs."""
    about = json.loads((folder / "about.json").read_text(encoding="utf-8"))
    last = about[max(about)]
    pairs = last["pairs"]
    extra = f" and {pairs['monolingual']:,} lines without a translation" if "monolingual" in pairs else ""
    commits = ", ".join(sorted({run["commit"] for run in about.values()}))
    processors = ", ".join(sorted({run["processor"] for run in about.values()}))
    return (
        f"{' to '.join(last['languages'])}, from {last['corpus']}: {pairs['train']:,} training pairs{extra}, tested on "
        f"{pairs['test']:,}. Teacher {last['teacher']}, {last['teacher_epochs']} epochs; students {last['student']}, "
        f"{last['student_epochs']} epochs; {last['pieces']:,} pieces. "
        f"Seeds: {', '.join(about)}. {processors}; commit {commits}."
    )


def method_table(folder: Path) -> str:
    """Return Table 1 over all seeds."""
    rows = pd.read_csv(folder / "table1.csv")
    several = rows["seed"].nunique() > 1
    lines = []
    for model, own in rows.groupby("model", sort=False):
        cells = [str(model)]
        for beam in (1, 5):
            spread = f" ({own[f'bleu_{beam}'].std():.1f})" if several else ""
            cells.append(f"{own[f'bleu_{beam}'].mean():.1f} ± {own[f'bleu_ci_{beam}'].mean():.1f}{spread}")
            closed = own[f"closed_{beam}"].mean()
            cells.append("" if pd.isna(closed) else f"{closed:.0%}")
            cells += [versus(own, rows, other=other, beam=beam) for other in ("baseline", "teacher")]
        lines.append(cells)
    head = ["model"]
    for name in ("greedy", "beam 5"):
        head += [f"BLEU {name}", "closed", "baseline", "teacher"]
    return str(tabulate(lines, headers=head, tablefmt="github", disable_numparse=True))


def versus(own: pd.DataFrame, rows: pd.DataFrame, *, other: str, beam: int) -> str:
    """Return in how many seeds a model is surely better (>) or worse (<) than another, such as `> 2`."""
    compared = rows[rows["model"] == other].set_index("seed")[f"bleu_{beam}"]
    own = own.set_index("seed")
    sure = own[f"bleu_p_{other}_{beam}"] < SIGNIFICANT
    difference = own[f"bleu_{beam}"] - compared
    counts = {">": int((sure & (difference > 0)).sum()), "<": int((sure & (difference < 0)).sum())}
    return " ".join(f"{sign} {count}" for sign, count in counts.items() if count)


def pruning_table(folder: Path) -> str:
    """Return Table 3 over all seeds."""
    rows = pd.read_csv(folder / "table3.csv")
    several = rows["seed"].nunique() > 1
    whole = rows[rows["pruned"] == 0].set_index("seed")
    lines = []
    for (model, pruned), own in rows.groupby(["model", "pruned"], sort=False):
        cells = [str(model), f"{pruned:.0%}", f"{own['remaining'].mean() / 1e6:.2f}M"]
        for beam in (1, 5):
            score = own.set_index("seed")[f"bleu_{beam}"]
            spread = f" ({score.std():.1f})" if several else ""
            cells.append(f"{score.mean():.1f}{spread}")
            cells.append(f"{(score - whole[f'bleu_{beam}']).mean():+.1f}" if pruned else "")
        lines.append(cells)
    head = ["model", "pruned", "weights", "BLEU greedy", "change", "BLEU beam 5", "change"]
    return str(tabulate(lines, headers=head, tablefmt="github", disable_numparse=True))


if __name__ == "__main__":
    app()
