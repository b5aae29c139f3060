"""A model's folder: weights, shape, vocabulary and card together; loading one executes nothing from it.

weights.safetensors holds each parameter by name. A pruned model's file holds, for each, only the weights that are left
(`name.values`) and one bit a weight that says where they stand (`name.kept`), so that it shrinks with the pruned share.
An exported model's matrices may be int8 with one scale a row (`name.scale`); loading multiplies them out, and
the search multiplies in int8 where the processor does.
"""

import hashlib
import json
import math
import os
import re
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import numpy as np
import torch
from pydantic import Field
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from seqkd.config import schema
from seqkd.data.vocab import Vocab
from seqkd.models.lstm import LSTMNetwork, NetworkShape
from seqkd.ops.cpu.gemm import INT8_MAX
from seqkd.utils import atomic
from seqkd.utils.errors import InputError

WEIGHTS, SHAPE, VOCAB, CARD = "weights.safetensors", "shape.json", "vocab.model", "README.md"
SCALE = ".scale"
WeightPrecision = Literal["fp32", "int8"]

TYPES = (torch.float32, torch.int8)  # of weights


class Model(NamedTuple):
    network: LSTMNetwork
    vocab: Vocab
    mask: Tensor | None  # (parameters,) bool in the order of network.parameters(); None: not pruned


class _Shape(schema.Record):
    """What shape.json may say."""

    vocab: Annotated[int, Field(ge=4, le=1_000_000)]
    layers: Annotated[int, Field(ge=1, le=99)]
    hidden: Annotated[int, Field(ge=1, le=99_999)]
    dropout: schema.Ratio


def save(folder: Path, model: Model, *, card: str, precision: WeightPrecision = "fp32") -> None:
    """Writes the folder whole or not at all. Raises ValueError when a pruned weight is not exactly zero.

    Raises InputError where the folder is there and holds anything but a model, for all in it goes.
    precision int8: rounds every matrix to 255 steps between the largest weights of each row, which is not undone.
    """
    there = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    if there and not {SHAPE} <= there <= {WEIGHTS, SHAPE, VOCAB, CARD}:
        raise InputError(f"{folder}: holds something else than a model, which would be lost; name a new folder.")
    tensors = {name: value.detach().cpu().contiguous() for name, value in model.network.named_parameters()}
    tensors, scales = _rounded(tensors) if precision == "int8" else (tensors, {})
    if model.mask is not None:
        tensors = _packed(tensors, model.mask.cpu())
    with atomic.atomic_write(folder) as partial:
        partial.mkdir()
        write_tensors(partial / WEIGHTS, tensors | scales, about={"vocabulary": _digest(model.vocab)})
        (partial / SHAPE).write_text(json.dumps(model.network.shape._asdict(), indent=2) + "\n", encoding="utf-8")
        (partial / VOCAB).write_bytes(model.vocab.model)
        (partial / CARD).write_text(card, encoding="utf-8")


def write_tensors(path: Path, tensors: dict[str, Tensor], *, about: dict[str, str] | None = None) -> None:
    """A safetensors file. Raises OSError, as any other writer does, when the system refuses."""
    try:
        save_file(tensors, path, metadata=about)
    except SafetensorError as error:
        if code := re.search(r"os error (\d+)", str(error)):
            raise OSError(int(code[1]), os.strerror(int(code[1])), str(path)) from None
        raise


def read_tensors(path: Path) -> dict[str, Tensor]:
    """What write_tensors wrote, mapped into memory. Raises InputError for a damaged file."""
    try:
        return load_file(path)
    except SafetensorError:
        raise InputError(f"{path}: not a whole safetensors file; delete it and run the same command again.") from None


def load(folder: Path, device: torch.device | str = "cpu") -> Model:
    """The model of a folder. Raises InputError when a file is missing, broken, or not of the others' kind."""
    try:
        text = (folder / SHAPE).read_text(encoding="utf-8")
        shape = NetworkShape(**schema.parse(_Shape, json.loads(text), where=str(folder / SHAPE)).model_dump())
        (folder / WEIGHTS).open("rb").close()  # safetensors has other words for what the system refuses
        with safe_open(folder / WEIGHTS, "pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
            vocabulary = (file.metadata() or {}).get("vocabulary")
        vocab = Vocab((folder / VOCAB).read_bytes(), where=folder / VOCAB)
    except FileNotFoundError as error:
        raise InputError(
            f"{error.filename}: no such file; {folder} is not a model's folder, or not a whole one; train it anew."
        ) from None
    except SafetensorError:
        raise InputError(f"{folder / WEIGHTS}: not a whole safetensors file; train the model anew.") from None
    except (ValueError, RecursionError):
        raise InputError(f"{folder / SHAPE}: not JSON; train the model anew.") from None
    with torch.device("meta"):
        sizes = {name: value.shape for name, value in LSTMNetwork(shape).named_parameters()}
    scales = {name: tensors.pop(name) for name in list(tensors) if name.endswith(SCALE)}
    int8 = bool(scales)
    mask = _unpack(sizes, tensors) if any(name.endswith(".kept") for name in tensors) else None
    _scale(tensors, scales)
    unfit = scales or (mask is not None and len(mask) != sum(map(math.prod, sizes.values())))
    found = {name: value.shape for name, value in tensors.items() if value.dtype == torch.float32}
    unfit = unfit or found != sizes or len(tensors) != len(sizes)
    if unfit or vocab.size != shape.vocab or vocabulary != _digest(vocab):
        raise InputError(f"{folder}: {WEIGHTS}, {SHAPE} and {VOCAB} do not belong together; train the model anew.")
    if not all(bool(value.isfinite().all()) for value in tensors.values()):
        raise InputError(f"{folder / WEIGHTS}: holds numbers that are not finite; train the model anew.")
    network = LSTMNetwork(shape)
    network.load_state_dict(tensors)
    network.int8 = int8
    return Model(network.to(device), vocab, mask)


def _digest(vocab: Vocab) -> str:
    """What the weights remember of the vocabulary they were trained with."""
    return hashlib.sha256(vocab.model).hexdigest()


def weights_size(folder: Path) -> int:
    """Bytes of the weights file."""
    return (folder / WEIGHTS).stat().st_size


def _rounded(tensors: dict[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The matrices in int8 and the vectors as they are; name.scale (rows,) of each matrix."""
    scales = {
        name: (value.abs().amax(1) / INT8_MAX).clamp(min=1e-30) for name, value in tensors.items() if value.ndim > 1
    }
    rounded = {name: (tensors[name] / scale[:, None]).round().to(torch.int8) for name, scale in scales.items()}
    return tensors | rounded, {f"{name}{SCALE}": scale for name, scale in scales.items()}


def _scale(tensors: dict[str, Tensor], scales: dict[str, Tensor]) -> None:
    """Multiplies the int8 matrices out and takes their scales; one without a fitting scale goes.

    Of what is missing then, and of a scale left over, load says that it does not fit.
    """
    for name in [name for name, value in tensors.items() if value.dtype == torch.int8]:
        value, scale = tensors.pop(name), scales.pop(name + SCALE, torch.empty(0))
        if value.ndim == 2 and scale.shape == value.shape[:1] and scale.dtype == torch.float32:
            tensors[name] = value.float() * scale[:, None]


def _packed(tensors: dict[str, Tensor], mask: Tensor) -> dict[str, Tensor]:
    packed, at = {}, 0
    for name, value in tensors.items():
        kept = mask[at : at + value.numel()]
        at += value.numel()
        if bool(value.flatten()[~kept].any()):
            raise ValueError(f"{name}: a pruned weight is not zero")
        packed[f"{name}.values"] = value.flatten()[kept]
        packed[f"{name}.kept"] = torch.from_numpy(np.packbits(kept.numpy()))
    return packed


def _unpack(sizes: dict[str, torch.Size], tensors: dict[str, Tensor]) -> Tensor:
    """Replaces the packed tensors by whole ones of these sizes, where they fit them; returns the mask."""
    masks = [torch.empty(0, dtype=torch.bool)]
    for name, size in sizes.items():
        bits, values = tensors.get(f"{name}.kept"), tensors.get(f"{name}.values")
        if bits is None or values is None or bits.dtype != torch.uint8 or values.dtype not in TYPES:
            continue  # load finds that tensors are missing or too many
        kept = torch.from_numpy(np.unpackbits(bits.numpy().reshape(-1))[: size.numel()].astype(bool))
        if kept.numel() != size.numel() or int(kept.sum()) != values.numel():
            continue
        unpacked = torch.zeros(size.numel(), dtype=values.dtype)
        unpacked[kept] = values.reshape(-1)
        tensors[name] = unpacked.view(size)
        masks.append(kept)
        del tensors[f"{name}.kept"], tensors[f"{name}.values"]
    return torch.cat(masks)
