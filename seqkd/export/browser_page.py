"""One HTML file that translates offline: weights, vocabulary and network in plain JavaScript, with card and scores.

The JavaScript stands in `browser/`. The page shows what comes from the model as text, and can fetch nothing.
"""

import base64
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from seqkd.data import bitext, placeholders
from seqkd.data.batches import MAX_LINE_PIECES
from seqkd.data.vocab import BOS, EOS
from seqkd.decoding import beam_search
from seqkd.decoding.hypotheses import FORBIDDEN_IDS
from seqkd.export import pages, scores
from seqkd.export.card import Card, describe
from seqkd.export.scores import TestScores
from seqkd.models import checkpoint
from seqkd.models.checkpoint import Model
from seqkd.models.lstm import LSTMNetwork
from seqkd.utils import atomic
from seqkd.utils.errors import InputError

EXAMPLES = 3  # source sentences of the test set that the page offers
EXAMPLE_CHARACTERS = range(20, 61)


def write(path: Path, model: Model, card: Card, *, test: Path | None = None) -> None:
    """Write the page atomically; test: pairs whose scores it tells. Raises InputError for a model it cannot hold."""
    if not isinstance(model.network, LSTMNetwork):
        raise InputError("only a single LSTM can be exported to a page; export this model to a folder.")
    if not model.vocab.keeps_text:
        raise InputError(
            "the model's vocabulary folds characters (an earlier version made it, or a teacher of others), which a page"
            " cannot do; export this model to a folder."
        )
    if any(not piece.score.is_integer() for piece in model.vocab.pieces()):  # BPE numbers its merges
        raise InputError("the model's vocabulary is not of BPE, as a page needs it; export this model to a folder.")
    sent = checkpoint.rounded(model)
    sent.network.int8 = False  # the page multiplies floats
    found = scores.measure(scores.searcher(sent), test, language=card.target)
    card = describe(card, weights="int8, in one HTML page", scores=found, use="open the page in a browser.")
    values = _values(model, card, found, examples=_examples(test))
    with atomic.open_text(path) as file:
        file.write(_render(values))


def _render(values: dict[str, object]) -> str:
    """Return the page; values: what its JavaScript reads as the model."""
    translator, page = (_read("vocabulary.js", "network.js"), _read("elements.js", "page.js"))
    parts = {"style": _read("page.css"), "translator": translator, "page": page}
    return pages.render(_read("page.html"), parts=parts, values=values)


def _values(model: Model, card: Card, found: Sequence[TestScores], *, examples: Sequence[str]) -> dict[str, object]:
    pieces, shape = model.vocab.pieces(), model.network.shape
    least = beam_search.max_length(0)
    special = {"bos": BOS, "eos": EOS, "forbidden": FORBIDDEN_IDS}
    tensors, weights = _pack({name: value.detach().cpu() for name, value in model.network.named_parameters()})
    return {
        "name": card.title,
        "languages": card.languages,
        "card": card.text,
        "scores": _table(found),
        "examples": examples,
        "shape": {"layers": shape.layers, "hidden": shape.hidden},
        "search": {"special": special, "lengthPenalty": scores.LENGTH_PENALTY},
        "limit": {"pieces": MAX_LINE_PIECES, "least": least, "slope": beam_search.max_length(1) - least},
        "pieces": [piece.text for piece in pieces],
        "scores_of_pieces": [piece.score for piece in pieces],
        "kinds": "".join(piece.kind[0] for piece in pieces),
        "placeholders": {
            "pattern": placeholders.PATTERN.pattern,
            "signs": placeholders.SIGNS[: model.vocab.placeholders],
        },
        "tensors": tensors,
        "weights": base64.b64encode(weights).decode(),
    }


def _pack(parameters: dict[str, Tensor]) -> tuple[list[dict[str, object]], bytes]:
    """Return the names and sizes of the weights, and their bytes: all scales and vectors, then all int8 matrices."""
    tensors, scales = checkpoint.quantize(parameters)
    floats = [scales.get(name + checkpoint.SCALE, value) for name, value in tensors.items()]
    matrices = [value for value in tensors.values() if value.dtype == torch.int8]
    packed = torch.cat(floats).numpy().astype("<f4").tobytes() + b"".join(each.numpy().tobytes() for each in matrices)
    sizes = ((name, *value.shape) for name, value in tensors.items())
    return [{"name": name, "rows": rows, "columns": sum(rest)} for name, rows, *rest in sizes], packed


def _table(found: Sequence[TestScores]) -> dict[str, object]:
    """Return the table of scores: a line on the data, and rows of cells, the head first."""
    rows = [
        [f"beam {each.beam}", one.metric, f"{one.value:.1f} ± {one.interval:.1f}", one.signature]
        for each in found
        for one in each.estimates
    ]
    data = [f"{each.data}, {each.sentences:,} sentences; 95 % bootstrap intervals." for each in found[:1]]
    return {"data": "".join(data), "rows": [["search", "metric", "score", "signature"], *rows] if rows else []}


def _examples(test: Path | None) -> list[str]:
    """Return a few source sentences of middle length, spread over the test set."""
    if test is None:
        return []
    fitting = [pair.source for pair in bitext.read(test) if len(pair.source) in EXAMPLE_CHARACTERS]
    return fitting[:: -(-len(fitting) // EXAMPLES) or 1]


def _read(*names: str) -> str:
    return "\n".join(pages.read("seqkd.export", f"browser/{name}") for name in names)
