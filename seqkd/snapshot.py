"""The state of a training after each epoch, to take up when a run was interrupted."""

import json
import shutil
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor

from seqkd.corpus import replacing


def save(path: Path, tensors: dict[str, Tensor]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, partial)
    partial.replace(path)


def load(path: Path) -> dict[str, Tensor]:
    return load_file(path)


def commit(folder: Path, lines: list[dict[str, Any]], *, extra: list[int]) -> None:
    """Names the epoch whose files are all there, and drops those of earlier epochs."""
    with replacing(folder / "state.json") as file:
        json.dump({"lines": lines, "extra": extra}, file)
    for path in folder.iterdir():
        if path.name != "state.json" and not path.name.startswith(f"{len(lines)}-"):
            path.unlink()


def latest(folder: Path) -> tuple[list[dict[str, Any]], list[int]] | None:
    try:
        state = json.loads((folder / "state.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    return state["lines"], state["extra"]


def clear(folder: Path) -> None:
    """Forgets a training that has ended."""
    shutil.rmtree(folder, ignore_errors=True)
