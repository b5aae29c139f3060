"""A model's folder: weights, shape, vocabulary and card together; loading one executes nothing from it.

weights.safetensors holds each parameter by name. A pruned model's file holds, for each, only the weights that are left
(`name.values`) and one bit a weight that says where they stand (`name.kept`), so that it shrinks with the pruned share.
"""

import json
import os
import shutil
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from seqkd.errors import InputError
from seqkd.model import Network, Shape
from seqkd.vocab import Vocab

WEIGHTS, SHAPE, VOCAB, CARD = "weights.safetensors", "shape.json", "vocab.model", "README.md"


class Model(NamedTuple):
    network: Network
    vocab: Vocab
    mask: Tensor | None  # (parameters,) bool in the order of network.parameters(); None: not pruned


def save(folder: Path, model: Model, *, card: str) -> None:
    """Writes the folder whole or not at all. Raises ValueError when a pruned weight is not exactly zero."""
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    tensors = {name: value.detach().cpu().contiguous() for name, value in model.network.named_parameters()}
    if model.mask is not None:
        tensors = _packed(tensors, model.mask.cpu())
    save_file(tensors, partial / WEIGHTS)
    (partial / SHAPE).write_text(json.dumps(model.network.shape._asdict(), indent=2) + "\n", encoding="utf-8")
    (partial / VOCAB).write_bytes(model.vocab.model)
    (partial / CARD).write_text(card, encoding="utf-8")
    shutil.rmtree(folder, ignore_errors=True)
    os.replace(partial, folder)


def load(folder: Path, device: torch.device | str = "cpu") -> Model:
    """The model of a folder. Raises InputError when a file is missing, broken or of another shape."""
    try:
        shape = Shape(**json.loads((folder / SHAPE).read_text(encoding="utf-8")))
        tensors = load_file(folder / WEIGHTS)
        vocab = Vocab((folder / VOCAB).read_bytes())
    except FileNotFoundError as error:
        raise InputError(f"{error.filename}: no such file; {folder} is not a model's folder.") from None
    except (json.JSONDecodeError, TypeError):
        raise InputError(f"{folder / SHAPE}: not a model's shape; train the model anew.") from None
    except SafetensorError:
        raise InputError(f"{folder / WEIGHTS}: not a safetensors file; train the model anew.") from None
    network = Network(shape)
    mask = _unpack(network, tensors) if any(name.endswith(".kept") for name in tensors) else None
    sizes = {name: value.shape for name, value in network.named_parameters()}
    if sizes != {name: value.shape for name, value in tensors.items()} or vocab.size != shape.vocab:
        raise InputError(f"{folder}: {WEIGHTS}, {SHAPE} and {VOCAB} do not belong together; train the model anew.")
    network.load_state_dict(tensors)
    return Model(network.to(device), vocab, mask)


def size(folder: Path) -> int:
    """Bytes of the weights file."""
    return (folder / WEIGHTS).stat().st_size


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


def _unpack(network: Network, tensors: dict[str, Tensor]) -> Tensor:
    """Replaces the packed tensors by whole ones; returns the mask."""
    masks = []
    for name, parameter in network.named_parameters():
        bits, values = tensors.pop(f"{name}.kept", torch.empty(0)), tensors.pop(f"{name}.values", torch.empty(0))
        kept = torch.from_numpy(np.unpackbits(bits.numpy().astype(np.uint8))[: parameter.numel()].astype(bool))
        if kept.numel() != parameter.numel() or int(kept.sum()) != values.numel():
            continue  # a tensor is missing then, and load says so
        whole = torch.zeros(parameter.numel())
        whole[kept] = values
        tensors[name] = whole.view(parameter.shape)
        masks.append(kept)
    return torch.cat(masks)
