"""The model card: what a model's folder tells whoever receives it."""

import json
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

from seqkd.models.checkpoint import Model


def render(
    *,
    name: str,
    model: Model,
    trainings: Sequence[Mapping[str, Any]],
    about: Mapping[str, Any],
    dev: Mapping[str, str],
) -> str:
    """Return the card as Markdown.

    trainings: the fields of each training, in their order; about: the corpus's about.json; dev: scores on the
    development set.
    """
    shape = model.network.shape
    parameters = sum(parameter.numel() for parameter in model.network.parameters())
    remaining = parameters if model.mask is None else int(model.mask.sum())
    origin = json.dumps(about.get("origin", {}), indent=2, ensure_ascii=False)
    lines = [
        f"# {name}",
        "",
        f"Translates {about.get('source')} to {about.get('target')}: LSTM encoder-decoder with attention,"
        f" {shape.layers}x{shape.hidden}, {parameters:,} parameters, {remaining:,} of them not pruned,"
        f" {shape.vocab:,} joint subwords.",
        "",
        f"Use: `seqkd translate --model {name}` with the path of this folder; text in, text out, a sentence a line.",
        "",
        "## Corpus",
        "",
        f"{about.get('corpus')}, {about.get('pairs', {}).get('train', 0):,} training pairs.",
        "Where it comes from, and under which licence:",
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


def _training(fields: Mapping[str, Any], number: int, count: int) -> list[str]:
    which = f", {number} of {count}" if count > 1 else ""
    return [f"## Training{which}", "", *(f"- {key}: {value}" for key, value in fields.items()), ""]
