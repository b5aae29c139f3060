"""What every benchmark works on: a corpus in pieces, and networks trained on it until their lengths are sane."""

import hashlib
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import torch

from seqkd.config import schema
from seqkd.config.machine import Machine
from seqkd.corpora import prepare
from seqkd.data import batches, bitext, vocab
from seqkd.data.batches import TokenizedCorpus
from seqkd.models import checkpoint, lstm
from seqkd.models.checkpoint import Model
from seqkd.ops import devices
from seqkd.training import trainer
from seqkd.training.trainer import TrainingJob
from seqkd.utils.errors import InputError

BATCH, PIECES = 64, 8000
ONE = Machine(processes=1, device="cpu")
RATES = {500: 0.001, 100: 0.004}  # by hidden units


class Material:
    """A corpus, its vocabulary and trained networks; kept in a folder for the next run."""

    def __init__(self, data: Path | None, *, languages: tuple[str, str], keep: Path) -> None:
        self.name, train, self.test = pairs(data, languages)
        mark = hashlib.sha256(repr([(pair.source, pair.target) for pair in train]).encode()).hexdigest()[:12]
        self.folder = keep / f"work-{mark}"
        self.folder.mkdir(parents=True, exist_ok=True)
        self.vocab = _vocab(train, self.folder / "joint.model")
        self.texts = train
        self.sources = [pair.source for pair in self.test]

    @cached_property
    def text(self) -> TokenizedCorpus:
        """The training text in pieces."""
        path = self.folder / "train.tsv"
        bitext.write(path, self.texts)
        return batches.tokenize(path, self.vocab, max_length=60)

    def some(self, count: int) -> TokenizedCorpus:
        """So many whole batches of the training text, spread over all lengths."""
        planned = batches.make_batches(self.text, BATCH)[:-1]
        count = min(count, len(planned))
        rows = [row for at in range(count) for row in planned[(2 * at + 1) * len(planned) // (2 * count)]]
        return TokenizedCorpus([self.text.sources[row] for row in rows], [self.text.targets[row] for row in rows])

    def optim(self, size: str) -> schema.OptimizerSettings:
        """One epoch of Adam."""
        hidden = schema.NetworkSettings(size=size, dropout=0.0).hidden
        return schema.OptimizerSettings(
            optimizer="adam", learning_rate=RATES[hidden], schedule="constant", epochs=1, batch_size=BATCH
        )

    def network(self, size: str) -> lstm.LSTMNetwork:
        """A fresh network with random weights."""
        shape = schema.NetworkSettings(size=size, dropout=0.0)
        made = lstm.LSTMNetwork(lstm.NetworkShape(self.vocab.size, shape.layers, shape.hidden, 0.0))
        made.init_weights(torch.Generator().manual_seed(1))
        return made

    def model_folder(self, size: str) -> Path:
        """The folder of a network trained for one epoch, or for 400 updates where an epoch has fewer."""
        folder = self.folder / size
        if not folder.exists():
            print(f"Training {size} on {self.name}, once")
            devices.configure(Machine(), "bf16")
            network = self.network(size)
            epochs = -(-400 // len(batches.make_batches(self.text, BATCH)))
            dev = TokenizedCorpus(self.text.sources[:100], self.text.targets[:100])
            settings = self.optim(size).model_copy(update={"epochs": epochs})
            trainer.train(network, TrainingJob(self.text, dev, settings, seed=1, label=size), Machine())
            checkpoint.save(folder, Model(network, self.vocab, None), card="A benchmark's network.\n")
        return folder

    def trained(self, size: str) -> lstm.LSTMNetwork:
        network = checkpoint.load(self.model_folder(size)).network
        assert isinstance(network, lstm.LSTMNetwork)
        return network


class _Named(NamedTuple):
    name: str
    train: list[bitext.Pair]
    test: list[bitext.Pair]


def pairs(data: Path | None, languages: tuple[str, str]) -> _Named:
    """The named folder's pairs; without one the default corpus if the pipeline has made it, else the grammar's."""
    gold, test = Path("data/text/reference.tsv"), Path("data/corpus/test.tsv")
    if data is None and gold.exists() and test.exists():
        return _Named("the default corpus", bitext.read(gold), bitext.read(test))
    named = str(data) if data else "corpora/grammar.yaml"
    settings = schema.DataSettings(corpus=named, source=languages[0], target=languages[1], max_length=60, tidy=False)
    found = prepare.prepare(settings, seed=17, downloads=Path(".dvc/tmp/downloads"))
    name = data.name if data else "the seeded grammar (no corpus was given, nor made)"
    return _Named(name, list(found.train), list(found.test))


def _vocab(pairs: list[bitext.Pair], path: Path) -> vocab.Vocab:
    """A joint vocabulary of 8000 pieces, or of as many as the text can give."""
    if path.exists():
        return vocab.load(path)
    texts = [text for pair in pairs for text in (pair.source, pair.target)]
    for size in (PIECES, PIECES // 2, PIECES // 8):
        try:
            return vocab.train(texts, path, size=size)
        except InputError:
            continue
    return vocab.train(texts, path, size=PIECES // 32)
