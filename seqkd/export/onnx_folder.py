"""A folder for onnxruntime: the graph, the sentencepiece model, the card and an example that translates."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnxruntime

from seqkd.data.vocab import Vocab
from seqkd.export import onnx_graph, pages, scores
from seqkd.export.card import Card, describe
from seqkd.models import checkpoint
from seqkd.models.checkpoint import Model, WeightPrecision
from seqkd.utils import atomic, links
from seqkd.utils.errors import InputError

GRAPH, EXAMPLE, PLACEHOLDERS = "model.onnx", "translate.py", "placeholders.py"
FILES = {GRAPH, EXAMPLE, PLACEHOLDERS, checkpoint.VOCAB, checkpoint.CARD}


def write(folder: Path, model: Model, card: Card, *, precision: WeightPrecision, test: Path | None = None) -> None:
    """Write the folder atomically. Raises InputError where it exists and holds anything else."""
    links.refuse_dangling(folder)
    existing = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    if existing and not {GRAPH} <= existing <= FILES:
        raise InputError(f"{folder}: holds something else than an exported model; name a new folder.")
    graph = onnx_graph.serialize(model, int8=precision == "int8")
    found = scores.measure(lambda texts, _: translate(graph, model.vocab, texts), test, language=card.target, beams=[1])
    weights = f"{precision}, as an ONNX graph that translates greedily"
    card = describe(card, weights=weights, scores=found, use=f"`python {EXAMPLE} < text.txt`, a sentence a line.")
    with atomic.atomic_write(folder) as partial:
        partial.mkdir()
        (partial / GRAPH).write_bytes(graph)
        (partial / checkpoint.VOCAB).write_bytes(model.vocab.model)
        (partial / checkpoint.CARD).write_text(card.render(), encoding="utf-8")
        example = pages.read("seqkd.export", "onnx_example.py")
        example = example.replace("from seqkd.data import placeholders", "import placeholders")  # it needs no seqkd
        (partial / EXAMPLE).write_text(example, encoding="utf-8")
        (partial / PLACEHOLDERS).write_text(pages.read("seqkd.data", PLACEHOLDERS), encoding="utf-8")


def translate(graph: bytes, vocab: Vocab, texts: Sequence[str]) -> list[str]:
    """Return the greedy translations that onnxruntime computes from a graph, with one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    sources = vocab.encode_all(list(texts))
    targets = [session.run(None, {onnx_graph.SOURCE: np.array(ids)})[0].tolist() if ids else [] for ids in sources]
    return vocab.decode_all(targets, texts)
