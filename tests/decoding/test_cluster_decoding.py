"""Decoding and selection on a cluster's workers give the bytes of one process."""

import random
from pathlib import Path

import pytest
import torch

from benchmarks.local_cluster import Local
from seqkd.config.machine import Machine
from seqkd.config.schema import SelectSettings
from seqkd.data import bitext, nbest, vocab
from seqkd.data.bitext import Pair
from seqkd.decoding import corpus_decoder, nbest_cache, translator
from seqkd.decoding.translator import DecodingJob
from seqkd.models import checkpoint, lstm
from seqkd.models.checkpoint import Model
from seqkd.selection import select

pytest.importorskip("distributed", reason="needs the extra cluster")
pytestmark = pytest.mark.slow
WORDS = ["the", "a", "cat", "dog", "house", "sat", "ran", "saw", "on", "in", "mat", "garden", "old", "small"]
MODEL, TEXT = Path("models/teacher"), Path("text.tsv")


def test_lists_and_selected_texts_are_those_of_one_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corpus_decoder, "CHUNK_SIZE", 20)
    monkeypatch.setattr(nbest, "LINES_PER_PART", 50)
    choose = random.Random(3).choices
    pairs = [Pair(n, " ".join(choose(WORDS, k=5)), " ".join(choose(WORDS, k=5))) for n in range(180)]
    pieces = vocab.train([pair.source for pair in pairs], tmp_path / "joint.model", size=60)
    cluster, found = Local(tmp_path), list[list[object]]()
    with cluster.stack:
        cluster.start_worker()
        cluster.start_worker()
        for seed in (1, 2):  # two projects, so the same workers serve two models of one name
            (tmp_path / f"project{seed}").mkdir()
            monkeypatch.chdir(tmp_path / f"project{seed}")
            bitext.write(TEXT, pairs)
            network = lstm.LSTMNetwork(lstm.NetworkShape(pieces.size, 1, 16, 0.0))
            network.init_weights(torch.Generator().manual_seed(seed), init_range=0.7)
            checkpoint.save(MODEL, Model(network, pieces, None), card="")
            here = Machine(processes=1, device="cpu")
            found.append(_outputs(here, Path("here")))
            assert found[-1] == _outputs(here.model_copy(update={"cluster": cluster.address}), Path("there"))
    assert len(found[0]) == 4 + 180 + 180
    assert found[0] != found[1]


def _outputs(machine: Machine, folder: Path) -> list[object]:
    """Return the parts of an n-best list as bytes, the pairs selected from it, and the best hypotheses of the text."""
    job = DecodingJob(MODEL, machine, 3, 3)
    folder.mkdir()
    cache = nbest_cache.open_cache(folder / "kept")
    assert sum(corpus_decoder.decode_missing(cache, TEXT, job)) > 100
    corpus_decoder.write(cache, TEXT, folder / "lists" / "k3", processes=1)
    settings, how = SelectSettings(nbest="k3", metric="bleu"), {"model": MODEL / checkpoint.VOCAB, "tokenizer": "13a"}
    chosen = select.choose_all(folder / "lists", settings, reference=TEXT, label="x", machine=machine, how=how)
    sources = [pair.source for pair in bitext.stream(TEXT)]
    best = translator.best_hypotheses(job._replace(sources=sources), label="x")
    parts = [path.read_bytes() for path in sorted((folder / "lists" / "k3").iterdir())]
    return [*parts, *(pair for pairs, _ in chosen for pair in pairs), *best]
