"""A model's folder: weights, shape, vocabulary and card together; loading one executes nothing from it.

weights.safetensors holds each parameter by name. A pruned model's file holds, for each, only the weights that are left
(`name.values`) and one bit per weight that says which they are (`name.kept`), so it shrinks with the pruned share.
An exported model's matrices may be int8 with one scale per row (`name.scale`); loading makes fp32 of them, and beam
search multiplies in int8 where the processor can.
"""

import hashlib
import json
import math
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import numpy as np
import torch
from pydantic import AfterValidator, Field
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from seqkd.config import records
from seqkd.config.records import Members, Ratio, Record
from seqkd.data.vocab import Vocab
from seqkd.models.ensemble import Ensemble
from seqkd.models.interface import Network, NetworkShape
from seqkd.models.lstm import LSTMNetwork
from seqkd.utils import atomic, links
from seqkd.utils.errors import InputError

WEIGHTS, SHAPE, VOCAB, CARD = "weights.safetensors", "shape.json", "vocab.model", "README.md"
ARCHITECTURES: dict[str, type[Network]] = {"lstm": LSTMNetwork, "ensemble": Ensemble}  # by `architecture` in shape.json
WeightPrecision = Literal["fp32", "int8"]
WEIGHT_DTYPES = (torch.float32, torch.int8)
VALUES, KEPT, SCALE = ".values", ".kept", ".scale"  # ends of the names of packed and quantized tensors
INT8_MAX = 127  # a file's int8 weights are symmetric, so -128 is never written; the GEMM's range is its own matter


class Model(NamedTuple):
    network: Network
    vocab: Vocab
    mask: Tensor | None  # (parameters,) bool in the order of network.parameters(), False where pruned; None: not pruned


def _known_architecture(name: str) -> str:
    if name not in ARCHITECTURES:
        raise ValueError(f"must be one of {', '.join(ARCHITECTURES)}")
    return name


class _ShapeRecord(Record):
    """What shape.json may say."""

    architecture: Annotated[str, AfterValidator(_known_architecture)] = "lstm"  # the only one before it was written
    vocab: Annotated[int, Field(ge=4, le=1_000_000)]
    layers: Annotated[int, Field(ge=1, le=99)]
    hidden: Annotated[int, Field(ge=1, le=99_999)]
    dropout: Ratio
    members: Members = 1


class _Files(NamedTuple):
    """A model's folder as it was read."""

    architecture: type[Network]
    shape: NetworkShape
    tensors: dict[str, Tensor]
    vocab: Vocab
    vocab_digest: str | None  # of the vocabulary that the weights were trained with

    def sizes(self) -> dict[str, torch.Size]:
        """Return the sizes that the parameters of such a network have, without making it."""
        with torch.device("meta"):
            network = self.architecture(self.shape)
        return {name: value.shape for name, value in network.named_parameters()}


def save(folder: Path, model: Model, *, card: str, precision: WeightPrecision = "fp32") -> None:
    """Write a model's folder atomically. Raises ValueError when a pruned weight is not exactly zero.

    Raises InputError where the folder exists and holds anything but a model, all of which would be replaced.
    precision int8: rounds every matrix to 255 steps between the largest weights of each row, which cannot be undone.
    """
    links.refuse_dangling(folder)
    existing = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    if existing and not {SHAPE} <= existing <= {WEIGHTS, SHAPE, VOCAB, CARD}:
        raise InputError(f"{folder}: holds something else than a model, which would be lost; name a new folder.")
    tensors = {name: value.detach().cpu().contiguous() for name, value in model.network.named_parameters()}
    tensors, scales = quantize(tensors) if precision == "int8" else (tensors, {})
    if model.mask is not None:
        tensors = _pack_pruned(tensors, model.mask.cpu())
    architecture = next(name for name, kind in ARCHITECTURES.items() if kind is type(model.network))
    shape = {"architecture": architecture, **model.network.shape._asdict()}
    with atomic.atomic_write(folder) as partial:
        partial.mkdir()
        write_tensors(partial / WEIGHTS, tensors | scales, metadata={"vocabulary": _vocab_digest(model.vocab)})
        (partial / SHAPE).write_text(json.dumps(shape, indent=2) + "\n", encoding="utf-8")
        (partial / VOCAB).write_bytes(model.vocab.model)
        (partial / CARD).write_text(card, encoding="utf-8")


def write_tensors(path: Path, tensors: dict[str, Tensor], *, metadata: dict[str, str] | None = None) -> None:
    """Write a safetensors file. Raises OSError, as any other writer does, when the system refuses."""
    path.touch()
    mode = path.stat().st_mode  # what the umask leaves, as of every file; safetensors shuts out all other users
    try:
        save_file(tensors, path, metadata=metadata)
        path.chmod(mode)
    except SafetensorError as error:
        if code := re.search(r"os error (\d+)", str(error)):
            raise OSError(int(code[1]), os.strerror(int(code[1])), str(path)) from None
        raise


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Map what write_tensors wrote into memory. Raises InputError for a damaged file."""
    try:
        return load_file(path)
    except SafetensorError:
        raise InputError(f"{path}: not a whole safetensors file; delete it and run the same command again.") from None


def load(folder: Path, device: torch.device | str = "cpu") -> Model:
    """Return the model of a folder.

    Raises InputError when a file is missing or damaged, or does not belong to the others.
    """
    files = _read(folder)
    quantized = any(name.endswith(SCALE) for name in files.tensors)
    tensors, mask = _unpack(files)
    if not _belong_together(files, tensors, mask):
        raise InputError(f"{folder}: {WEIGHTS}, {SHAPE} and {VOCAB} do not belong together; train the model anew.")
    if not all(bool(value.isfinite().all()) for value in tensors.values()):
        raise InputError(f"{folder / WEIGHTS}: holds numbers that are not finite; train the model anew.")
    network = files.architecture(files.shape)
    network.load_state_dict(tensors)
    network.int8 = quantized
    return Model(network.to(device), files.vocab, mask)


def save_vocab(folder: Path, vocab: Vocab, *, reason: str) -> None:
    """Write, atomically, the folder of a model that is not trained: its vocabulary, and why there is no network."""
    with atomic.atomic_write(folder) as partial:
        partial.mkdir()
        (partial / VOCAB).write_bytes(vocab.model)
        (partial / CARD).write_text(f"# {folder.name}\n\nNot trained: {reason}.\n", encoding="utf-8")


def load_vocab(folder: Path) -> Vocab:
    """Return the vocabulary of a model's folder, which may have no network."""
    return Vocab((folder / VOCAB).read_bytes(), where=folder / VOCAB)


def has_network(folder: Path) -> bool:
    """Return whether a folder has more than a vocabulary."""
    return (folder / SHAPE).exists() or not (folder / VOCAB).exists()


def _read(folder: Path) -> _Files:
    """Read the files of a model's folder. Raises InputError when one is missing or damaged."""
    if not has_network(folder):
        raise InputError(f"{folder}: was not trained, as its {CARD} says; name another model.")
    try:
        text = (folder / SHAPE).read_text(encoding="utf-8")
        record = records.parse(_ShapeRecord, json.loads(text), where=str(folder / SHAPE))
        (folder / WEIGHTS).open("rb").close()  # what the system refuses, safetensors says in other words
        with safe_open(folder / WEIGHTS, "pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
            vocab_digest = (file.metadata() or {}).get("vocabulary")
        vocab = Vocab((folder / VOCAB).read_bytes(), where=folder / VOCAB)
    except FileNotFoundError as error:
        raise InputError(
            f"{error.filename}: no such file; {folder} is not a model's folder, or not a whole one; train it anew."
        ) from None
    except SafetensorError:
        raise InputError(f"{folder / WEIGHTS}: not a whole safetensors file; train the model anew.") from None
    except (ValueError, RecursionError):
        raise InputError(f"{folder / SHAPE}: not JSON; train the model anew.") from None
    shape = NetworkShape(**record.model_dump(exclude={"architecture"}))
    return _Files(ARCHITECTURES[record.architecture], shape, tensors, vocab, vocab_digest)


def _unpack(files: _Files) -> tuple[dict[str, Tensor], Tensor | None]:
    """Return the weights, unpacked and in fp32, and the mask of a pruned model.

    What does not fit the network's sizes stays as it is, for _belong_together to find.
    """
    tensors, mask = dict(files.tensors), None
    if any(name.endswith(KEPT) for name in tensors):
        mask = _unpack_pruned(tensors, files.sizes())
    _dequantize(tensors)
    return tensors, mask


def _belong_together(files: _Files, tensors: dict[str, Tensor], mask: Tensor | None) -> bool:
    """Return whether the weights fit the network's shape and the vocabulary is the one they were trained with."""
    sizes = files.sizes()
    if {name: value.shape for name, value in tensors.items()} != sizes:
        return False
    if any(value.dtype != torch.float32 for value in tensors.values()):
        return False
    if mask is not None and len(mask) != sum(map(math.prod, sizes.values())):
        return False
    return files.vocab.size == files.shape.vocab and files.vocab_digest == _vocab_digest(files.vocab)


def _vocab_digest(vocab: Vocab) -> str:
    """Return what the weights file remembers of the vocabulary it was trained with."""
    return hashlib.sha256(vocab.model).hexdigest()


def weights_size(folder: Path) -> int:
    """Return the bytes of the weights file."""
    return (folder / WEIGHTS).stat().st_size


def rounded(model: Model) -> Model:
    """Return the model as it comes back from a folder with int8 weights."""
    tensors, scales = quantize({name: value.detach().cpu() for name, value in model.network.named_parameters()})
    tensors |= scales
    _dequantize(tensors)
    network = type(model.network)(model.network.shape)
    network.load_state_dict(tensors)
    network.int8 = True
    return model._replace(network=network)


def quantize(tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return the tensors with the matrices in int8, and name.scale (rows,) of each matrix."""
    scales = {
        name: (value.abs().amax(1) / INT8_MAX).clamp(min=1e-30) for name, value in tensors.items() if value.ndim > 1
    }
    quantized = {name: (tensors[name] / scale[:, None]).round().to(torch.int8) for name, scale in scales.items()}
    return {**tensors, **quantized}, {f"{name}{SCALE}": scale for name, scale in scales.items()}


def _dequantize(tensors: dict[str, Tensor]) -> None:
    """Replace each int8 matrix that has a fitting scale by fp32, and remove its scale."""
    for name in [name for name, value in tensors.items() if value.dtype == torch.int8]:
        value, scale = tensors[name], tensors.get(name + SCALE, torch.empty(0))
        if value.ndim == 2 and scale.shape == value.shape[:1] and scale.dtype == torch.float32:
            tensors[name] = value.float() * scale[:, None]
            del tensors[name + SCALE]


def _pack_pruned(tensors: dict[str, Tensor], mask: Tensor) -> dict[str, Tensor]:
    """Return name.values, the weights that are left, and name.kept, one bit per weight, of each tensor."""
    packed: dict[str, Tensor] = {}
    masks = torch.split(mask, [value.numel() for value in tensors.values()])
    for (name, value), kept in zip(tensors.items(), masks, strict=True):
        if bool(value.flatten()[~kept].any()):
            raise ValueError(f"{name}: a pruned weight is not zero")
        packed[name + VALUES] = value.flatten()[kept]
        packed[name + KEPT] = torch.from_numpy(np.packbits(kept.numpy()))
    return packed


def _unpack_pruned(tensors: dict[str, Tensor], sizes: dict[str, torch.Size]) -> Tensor:
    """Replace the packed tensors that fit these sizes by full ones, and return the mask of those."""
    masks = [torch.empty(0, dtype=torch.bool)]
    for name, size in sizes.items():
        bits, values = tensors.get(name + KEPT), tensors.get(name + VALUES)
        if bits is None or values is None or bits.dtype != torch.uint8 or values.dtype not in WEIGHT_DTYPES:
            continue
        kept = torch.from_numpy(np.unpackbits(bits.numpy().reshape(-1))[: size.numel()].astype(bool))
        if kept.numel() != size.numel() or int(kept.sum()) != values.numel():
            continue
        full = torch.zeros(size.numel(), dtype=values.dtype)
        full[kept] = values.reshape(-1)
        tensors[name] = full.view(size)
        masks.append(kept)
        del tensors[name + KEPT], tensors[name + VALUES]
    return torch.cat(masks)
