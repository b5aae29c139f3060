"""The library's interface: load a model's folder, translate with it. Use it through `import seqkd`."""

import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import Literal, NamedTuple, get_args

import torch

from seqkd.config.machine import Machine
from seqkd.data import nbest
from seqkd.data.batches import MAX_LINE_PIECES
from seqkd.decoding import beam_search
from seqkd.decoding.beam_search import BatchSizer
from seqkd.models import checkpoint
from seqkd.models.checkpoint import Model
from seqkd.ops import matmul
from seqkd.ops.matmul import Precision
from seqkd.utils.errors import InputError

Device = Literal["auto", "cpu", "cuda"]


class Hypothesis(NamedTuple):
    """One translation of a text."""

    text: str
    score: float  # log-probability in nats, of all pieces and the end of the sentence
    normalized_score: float  # score / pieces ** length_penalty, the end counted as a piece: what ranks the hypotheses


class Translator:
    """A model ready to translate; `seqkd.load` makes one. It is for one thread at a time."""

    def __init__(self, model: Model, *, precision: Precision = "fp32", folder: Path) -> None:
        self._model, self._precision, self._folder = model, precision, folder
        self._batch_sizer = BatchSizer(Machine().max_batch_hypotheses)
        with _computing(precision):
            model.network.freeze()

    def translate(self, texts: Iterable[str], *, beam_size: int = 5, length_penalty: float = 1.0) -> list[str]:
        """Return the best translation of every text, in order: the lines that `seqkd translate` prints.

        texts: sentences, which take their normal form; one that shows nothing gives an empty translation, and of one
        with more than 1,000 pieces only the beginning is translated, with a UserWarning.
        beam_size: hypotheses kept by the search; 1 is greedy search.
        length_penalty: from 0 to 1, the exponent of the length by which a score is divided; 0 is the plain sum.
        Raises ValueError for arguments out of range and for a single string in place of a list; InputError where
        memory does not suffice for one sentence, or where the model's weights give no numbers.
        """
        lists = self.nbest(texts, beam_size=beam_size, n=1, length_penalty=length_penalty)
        return [hypotheses[0].text for hypotheses in lists]

    def nbest(
        self, texts: Iterable[str], *, beam_size: int = 5, n: int | None = None, length_penalty: float = 1.0
    ) -> list[list[Hypothesis]]:
        """Return for every text, in order, its n best hypotheses, best first (fewer where the search found fewer).

        n: from 1 to beam_size; None: beam_size. All else is as in `translate`. Hypotheses that were cut off at the
        longest length, 10 pieces more than twice the source's, come last.
        """
        n = beam_size if n is None else n
        sentences = _checked(texts, beam_size=beam_size, n=n, length_penalty=length_penalty)
        vocab = self._model.vocab
        encoded = vocab.encode_all(sentences)
        _warn_of_long(encoded)
        with _computing(self._precision):
            lists = beam_search.decode(
                self._model.network,
                encoded,
                beam=beam_size,
                nbest=n,
                length_penalty=length_penalty,
                batch_sizer=self._batch_sizer,
            )
        if not all(lists):
            raise InputError(
                f"{self._folder}: its weights are so large that it gives no numbers; train the model anew."
            )
        every = [(each.ids, text) for hypotheses, text in zip(lists, sentences, strict=True) for each in hypotheses]
        texts_of = iter(vocab.decode_all([ids for ids, _ in every], [text for _, text in every]))
        return [[_hypothesis(each, next(texts_of), length_penalty) for each in hypotheses] for hypotheses in lists]


def load(folder: str | PathLike[str], *, device: Device = "auto", precision: Precision = "fp32") -> Translator:
    """Load a model's folder, such as models/seq_kd, for translation; nothing in it is executed.

    device: where to compute; "auto" is the GPU where torch finds one.
    precision: "fp32", or "bf16" to round the inputs of matrix products to bfloat16.
    Raises InputError for a folder that holds no whole model and for a GPU that is not there; OSError for a file that
    cannot be read; ValueError for another device or precision.

    What this changes in the process: only seqkd's own choice of matrix products, and while a search runs torch
    computes with one thread, so that translations are those of the command line; its setting is then put back.
    """
    for name, value, choices in (("device", device, get_args(Device)), ("precision", precision, get_args(Precision))):
        if value not in choices:
            raise ValueError(f"{name} is {value!r}; it must be one of {', '.join(choices)}")
    if device == "cuda" and not torch.cuda.is_available():
        raise InputError("device is cuda, but torch finds no GPU; use cpu or auto.")
    where = torch.device("cuda" if device != "cpu" and torch.cuda.is_available() else "cpu")
    return Translator(checkpoint.load(Path(folder), where), precision=precision, folder=Path(folder))


@contextmanager
def _computing(precision: Precision) -> Iterator[None]:
    """Compute with one torch thread and the products of this precision; the caller's number of threads comes back."""
    threads = torch.get_num_threads()
    matmul.set_backend("auto", precision)
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _checked(texts: Iterable[str], *, beam_size: int, n: int, length_penalty: float) -> list[str]:
    """Return the texts as a list. Raises ValueError for wrong arguments."""
    if isinstance(texts, str):
        raise ValueError("texts is a single string; give a list of strings")
    if beam_size < 1:
        raise ValueError(f"beam_size is {beam_size}; it must be at least 1")
    if not 1 <= n <= beam_size:
        raise ValueError(f"n is {n}; it must be from 1 to beam_size, which is {beam_size}")
    if not 0 <= length_penalty <= 1:
        raise ValueError(f"length_penalty is {length_penalty}; it must be from 0 to 1")
    return list(texts)


def _warn_of_long(encoded: Sequence[Sequence[int]]) -> None:
    """Warn of texts that are too long to be translated whole."""
    long = [index for index, ids in enumerate(encoded) if len(ids) > MAX_LINE_PIECES]
    if long:
        said = f"of {len(long):,} texts, the first is texts[{long[0]}], only the first {MAX_LINE_PIECES:,} pieces"
        warnings.warn(f"{said} are translated; break them into sentences", stacklevel=3)


def _hypothesis(decoded: nbest.Hypothesis, text: str, length_penalty: float) -> Hypothesis:
    length = len(decoded.ids) + decoded.finished
    return Hypothesis(text, decoded.logprob, decoded.logprob / max(1, length) ** length_penalty)
