"""The model card: what a model's folder tells whoever receives it, in the form that the Hugging Face hub reads."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from typing import Any

from seqkd.config import yaml_file
from seqkd.models.checkpoint import Model
from seqkd.models.interface import NetworkShape

UNKNOWN = "unknown"
# Licences that the hub knows by their lower-case SPDX names; all others are `other` with a name.
HUB_LICENCES = {
    *("apache-2.0", "mit", "isc", "bsd-2-clause", "bsd-3-clause", "mpl-2.0", "lgpl-3.0", "gpl-2.0", "gpl-3.0"),
    *("agpl-3.0", "unlicense", "cc0-1.0", "cc-by-2.0", "cc-by-3.0", "cc-by-4.0", "cc-by-sa-3.0", "cc-by-sa-4.0"),
    *("cc-by-nc-4.0", "cc-by-nc-sa-4.0", "cc-by-nc-nd-4.0"),
}


def render(
    *,
    name: str,
    model: Model,
    trainings: Sequence[Mapping[str, Any]],
    about: Mapping[str, Any],
    dev: Mapping[str, str],
) -> str:
    """Return the card as Markdown after metadata in YAML.

    trainings: the fields of each training, in their order; about: the corpus's about.json; dev: scores on the
    development set.
    """
    shape = model.network.shape
    parameters = sum(parameter.numel() for parameter in model.network.parameters())
    remaining = parameters if model.mask is None else int(model.mask.sum())
    origin = json.dumps(about.get("origin", {}), indent=2, ensure_ascii=False)
    licences = _licences(about.get("origin", {}))
    lines = [
        "---",
        yaml_file.dump(_metadata(name, licences, about, dev)) + "---",
        "",
        f"# {name}",
        "",
        f"Translates {about.get('source')} to {about.get('target')}: LSTM encoder-decoder with attention,"
        f" {_size(shape)}, {parameters:,} parameters, {remaining:,} of them not pruned,"
        f" {shape.vocab:,} joint subwords. In fp32 the weights are {4 * remaining / 1e6:.2f} MB.",
        "",
        f"Use: `seqkd translate --model {name}` with the path of this folder; text in, text out, a sentence a line.",
        "",
        "## Licence",
        "",
        f"Of the corpus: {', '.join(licences)}. Nobody has stated a licence for the weights themselves.",
        "",
        "## Corpus",
        "",
        f"{about.get('corpus')}, {about.get('pairs', {}).get('train', 0):,} training pairs.",
        "Where it comes from, with licences and checksums:",
        "",
        "```json",
        origin,
        "```",
        "",
        *chain.from_iterable(_training(fields, number, len(trainings)) for number, fields in enumerate(trainings, 1)),
        "## On the development set",
        "",
        *(f"- {key}: {value}" for key, value in dev.items()),
    ]
    return "\n".join(lines) + "\n"


def _size(shape: NetworkShape) -> str:
    size = f"{shape.layers}x{shape.hidden}"
    return size if shape.members == 1 else f"an ensemble of {shape.members} networks of {size}"


def _metadata(
    name: str, licences: Sequence[str], about: Mapping[str, Any], dev: Mapping[str, str]
) -> dict[str, object]:
    """Return the fields that the hub shows and searches."""
    corpus = str(about.get("corpus"))
    result = {
        "task": {"type": "translation"},
        "dataset": {"name": corpus, "type": _slug(corpus), "split": "dev"},
        "metrics": [{"type": key, "value": float(value)} for key, value in dev.items()],
    }
    return {
        "language": [about.get("source"), about.get("target")],
        **_hub_licence(licences),
        "library_name": "seqkd",
        "pipeline_tag": "translation",
        "tags": ["lstm", "knowledge-distillation"],
        "model-index": [{"name": name, "results": [result]}],
    }


def _hub_licence(licences: Sequence[str]) -> dict[str, str]:
    """Return the hub's fields for the licence; a corpus of several licences has none that names them all."""
    if UNKNOWN in licences:
        return {"license": UNKNOWN}
    if len(licences) == 1 and licences[0].lower() in HUB_LICENCES:
        return {"license": licences[0].lower()}
    return {"license": "other", "license_name": _slug("-and-".join(licences))}


def _licences(origin: object) -> list[str]:
    """Return the distinct licences of a corpus, sorted; `unknown` for a part, or a whole, that states none."""
    parts = [entry for entry in _entries(origin) if "licence" in entry]
    stated = {str(part["licence"]).strip() or UNKNOWN for part in parts} or {UNKNOWN}
    return sorted({UNKNOWN if licence.startswith("not stated") else licence for licence in stated})


def _entries(value: object) -> Iterator[Mapping[str, object]]:
    """Yield each mapping within a value of JSON."""
    if isinstance(value, Mapping):
        yield value
    inner = value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ()
    for each in inner:
        yield from _entries(each)


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9.]+", "-", text.lower()).strip("-.") or UNKNOWN


def _training(fields: Mapping[str, Any], number: int, count: int) -> list[str]:
    which = f", {number} of {count}" if count > 1 else ""
    told = {"loss": _loss(fields), **fields}
    return [f"## Training{which}", "", *(f"- {key}: {value}" for key, value in told.items()), ""]


def _loss(fields: Mapping[str, Any]) -> str:
    """Return the training's loss in the paper's terms."""
    alpha = fields.get("alpha", 0.0)
    return f"{1 - alpha:g} NLL + {alpha:g} Word-KD from {fields.get('teacher')}" if alpha else "NLL"
