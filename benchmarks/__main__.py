"""python -m benchmarks all, or one of: roofline, engine, small, cores, selection, gpu, page

Each prints its table; `all` runs them one after another and writes reports/benchmarks.md. The peers come from peers.sh.
"""

import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import torch
import typer

from benchmarks import cores, engine, gpu, roofline, selection, small
from benchmarks.rows import Row, record, table
from benchmarks.settings import Settings
from seqkd.ops import devices, matmul
from seqkd.utils.atomic import open_text
from seqkd.utils.errors import InputError

SECTIONS: dict[str, tuple[str, Callable[[Settings], list[Row]]]] = {
    "engine": ("2x500, one core, beside OpenNMT-py and CTranslate2", engine.run),
    "small": ("2x100, one core, beside the network as most would write it in torch", small.run),
    "cores": ("Two processes", cores.run),
    "selection": ("Sentence BLEU and selection, one core", selection.run),
    "gpu": ("2x500 on a GPU", gpu.run),
}
FLAGS = ("avx2", "avx512f", "avx512_bf16", "avx512_vnni", "amx_bf16")
PACKAGES = ("torch", "numba", "numpy", "sentencepiece", "sacrebleu")

Data = Annotated[Path | None, typer.Option(help="A folder of train.en, train.de, ...; default: what the project has.")]
Languages = Annotated[str, typer.Option(help="Source and target, as in the names of the folder's files.")]
Keep = Annotated[Path, typer.Option(help="The folder of the peers, the trained networks and the results.")]
Core = Annotated[int | None, typer.Option(help="The core for what runs in one process; default: the last.")]
Quick = Annotated[bool, typer.Option(help="Two short rounds.")]
Page = Annotated[Path, typer.Option(help="The page to write.")]


def main(
    section: Annotated[str, typer.Argument(help=f"all, page, roofline, {', '.join(SECTIONS)}")],
    *,
    data: Data = None,
    languages: Languages = "en,de",
    keep: Keep = Path(".peers"),
    core: Core = None,
    quick: Quick = False,
    page: Page = Path("reports/benchmarks.md"),
) -> None:
    """Measure, print, and write the page."""
    last = max(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 0
    source, target = languages.split(",")
    rounds, updates = (2, 6) if quick else (3, 20)
    settings = Settings(data, (source, target), keep, last if core is None else core, rounds, updates)
    results = keep / "results"
    results.mkdir(parents=True, exist_ok=True)
    if section == "all":
        everything(sys.argv[1:], results)
        write(page, results)
    elif section == "page":
        write(page, results)
    elif section == "roofline":
        settings.pin()
        print(limits())
    else:
        measure(section, settings, results)


def measure(section: str, settings: Settings, results: Path) -> None:
    """One section, into its file of results."""
    settings.pin()
    torch.set_num_threads(1)
    title, run = SECTIONS[section]
    found: dict[str, object] = {"title": title, "rows": [], "date": date.today().isoformat()}
    found["how"] = f"{'quick: ' if settings.rounds < 3 else ''}{settings.rounds} rounds; {about(settings)}"
    try:
        rows = run(settings)
    except InputError as error:
        found["missing"] = str(error)
        print(f"{title}: {error}")
    else:
        found["rows"] = [record(row) for row in rows]
        print(table(rows))
    with open_text(results / f"{section}.json") as file:
        json.dump(found, file, indent=2)


def about(settings: Settings) -> str:
    material = settings.material()
    lengths = f"{len(material.texts):,} pairs to train on, {len(material.sources):,} to translate"
    return f"{material.name}: {lengths}, {material.vocab.size:,} joint pieces"


def everything(arguments: list[str], results: Path) -> None:
    """Each section in a process of its own, so that one that fails takes no other with it."""
    for section in SECTIONS if torch.cuda.is_available() else [it for it in SECTIONS if it != "gpu"]:
        command = [sys.executable, "-m", "benchmarks", *(section if it == "all" else it for it in arguments)]
        if subprocess.run(command, check=False).returncode:
            failed = {"title": SECTIONS[section][0], "rows": [], "date": date.today().isoformat(), "how": "failed"}
            failed["missing"] = "It failed; its message stands in the run's output."
            with open_text(results / f"{section}.json") as file:
                json.dump(failed, file, indent=2)


def limits() -> str:
    roof = roofline.measure()
    return (
        f"Products of {roofline.ROWS} x {roofline.IN} x {roofline.OUT} on one core: "
        f"fp32 {roof.torch:.0f} GFLOP/s by torch, {roof.own:.0f} by seqkd; "
        f"bf16 {roof.torch_bf16:.0f} by torch, {roof.own_bf16:.0f} by seqkd. "
        f"Memory: {roof.memory:.1f} GB/s."
    )


def machine(keep: Path) -> str:
    """The processor with what matters of its flags, and the versions."""
    flags = ", ".join(flag for flag in FLAGS if flag in matmul.cpuinfo().split())
    versions = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    processor = devices.device_name(torch.device("cpu"))
    return (
        f"{processor} with {flags or 'none of the flags looked for'}, {os.cpu_count()} cores; "
        f"Python {platform.python_version()}, {versions}; peers: {installed(keep)}"
    )


def installed(keep: Path) -> str:
    """The peers' versions, as their environments have them."""
    found = keep.glob("*/lib/python*/site-packages/*.dist-info")
    names = {"OpenNMT_py", "opennmt_py", "ctranslate2", "torch"}
    told = sorted({path.name.removesuffix(".dist-info").replace("-", " ") for path in found})
    return ", ".join(name for name in told if name.split()[0] in names) or "none"


def write(page: Path, results: Path) -> None:
    """The page of the sections' last results."""
    told = "Rates of one core are per second of processor time, so that a busy neighbour counts little; medians."
    parts = ["# Benchmarks", machine(results.parent) + ".", limits(), told]
    for section in SECTIONS:
        path = results / f"{section}.json"
        if not path.exists():
            continue
        found = json.loads(path.read_text(encoding="utf-8"))
        body = found.get("missing") or table([Row(**row) for row in found["rows"]])
        parts.append(f"## {found['title']}\n\n{found['date']}; {found['how']}.\n\n{body}")
    with open_text(page) as file:
        file.write("\n\n".join(parts) + "\n")
    print(f"{page} is written")


if __name__ == "__main__":
    typer.run(main)
