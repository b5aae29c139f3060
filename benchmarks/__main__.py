"""python -m benchmarks all, or one of: roofline, engine, small, cores, selection, gpu, page

Each prints its table; `all` runs them one after another and writes this machine's section of reports/benchmarks.md. The
peers come from peers.sh.
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

from benchmarks import cores, engine, gpu, page, roofline, selection, small
from benchmarks.rows import Row, record, table
from benchmarks.settings import Settings
from seqkd.ops import devices
from seqkd.ops.cpu import target
from seqkd.utils.atomic import open_text
from seqkd.utils.errors import InputError

SECTIONS: dict[str, tuple[str, Callable[[Settings], list[Row]]]] = {
    "engine": ("2x500, one core, beside OpenNMT-py and CTranslate2", engine.run),
    "small": ("2x100, one core, beside the network as most would write it in torch", small.run),
    "cores": ("Two processes", cores.run),
    "selection": ("Sentence BLEU and selection, one core", selection.run),
    "gpu": ("2x500 on a GPU", gpu.run),
}
FLAGS = ("avx2", "avx512f", "avx512_bf16", "avx512_vnni", "amx_bf16", "amx_int8")
PACKAGES = ("torch", "numba", "numpy", "sentencepiece", "sacrebleu")

Data = Annotated[Path | None, typer.Option(help="A folder of train.en, train.de, ...; default: what the project has.")]
Languages = Annotated[str, typer.Option(help="Source and target, as in the names of the folder's files.")]
Keep = Annotated[Path, typer.Option(help="The folder of the peers, the trained networks and the results.")]
Core = Annotated[int | None, typer.Option(help="The core for what runs in one process; default: the last.")]
Quick = Annotated[bool, typer.Option(help="Two short rounds.")]
Out = Annotated[Path, typer.Option("--page", help="The page whose section of this machine is written.")]


def main(
    section: Annotated[str, typer.Argument(help=f"all, page, roofline, {', '.join(SECTIONS)}")],
    *,
    data: Data = None,
    languages: Languages = "en,de",
    keep: Keep = Path(".peers"),
    core: Core = None,
    quick: Quick = False,
    out: Out = Path("reports/benchmarks.md"),
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
        write(out, results)
    elif section == "page":
        write(out, results)
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
    found = started(section)
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


def started(section: str) -> dict[str, object]:
    """What the results of a section begin with."""
    device = torch.device("cuda" if section == "gpu" and torch.cuda.is_available() else "cpu")
    today, processor = date.today().isoformat(), devices.device_name(device)
    return {"title": SECTIONS[section][0], "rows": [], "date": today, "processor": processor}


def about(settings: Settings) -> str:
    material = settings.material()
    lengths = f"{len(material.texts):,} pairs to train on, {len(material.sources):,} to translate"
    return f"{material.name}: {lengths}, {material.vocab.size:,} joint pieces"


def everything(arguments: list[str], results: Path) -> None:
    """Each section in a process of its own, so that one that fails takes no other with it."""
    for section in SECTIONS if torch.cuda.is_available() else [it for it in SECTIONS if it != "gpu"]:
        command = [sys.executable, "-m", "benchmarks", *(section if it == "all" else it for it in arguments)]
        if subprocess.run(command, check=False).returncode:
            failed = started(section) | {"how": "failed"}
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
    """What matters of the processor's flags, and the versions."""
    flags = ", ".join(flag for flag in FLAGS if flag in target.cpuinfo().split())
    versions = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    return (
        f"{os.cpu_count()} cores with {flags or 'none of the flags looked for'}; "
        f"Python {platform.python_version()}, {versions}; peers: {installed(keep)}"
    )


def installed(keep: Path) -> str:
    """The peers' versions, as their environments have them."""
    found = keep.glob("*/lib/python*/site-packages/*.dist-info")
    names = {"OpenNMT_py", "opennmt_py", "ctranslate2", "torch"}
    told = sorted({path.name.removesuffix(".dist-info").replace("-", " ") for path in found})
    return ", ".join(name for name in told if name.split()[0] in names) or "none"


def write(path: Path, results: Path) -> None:
    """The page with the last results of every section under the processor or GPU that they were measured on."""
    here = devices.device_name(torch.device("cpu"))
    parts: dict[str, list[str]] = {here: [machine(results.parent) + ".", limits()]}
    for section in SECTIONS:
        if (results / f"{section}.json").exists():
            found = json.loads((results / f"{section}.json").read_text(encoding="utf-8"))
            body = found.get("missing") or table([Row(**row) for row in found["rows"]])
            part = f"### {found['title']}\n\n{found['date']}; {found['how']}.\n\n{body}"
            parts.setdefault(found.get("processor", here), []).append(part)
    before = path.read_text(encoding="utf-8") if path.exists() else ""
    with open_text(path) as file:
        file.write(page.merge(before, {processor: "\n\n".join(body) for processor, body in parts.items()}))
    print(f"{path} is written")


if __name__ == "__main__":
    typer.run(main)
