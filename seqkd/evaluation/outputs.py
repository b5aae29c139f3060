"""What models make of text, with their vocabularies and networks at hand; `translations` needs neither."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from seqkd.config.machine import Machine
from seqkd.data import vocab
from seqkd.data.batches import MAX_LINE_PIECES
from seqkd.decoding import beam_search, translator
from seqkd.decoding.translator import DecodingJob
from seqkd.evaluation import translations
from seqkd.evaluation.translations import Output
from seqkd.models import checkpoint
from seqkd.utils import pool


def translated(folder: Path, model: Path, sources: Sequence[str], *, beam: int) -> Output:
    """Return the translations that an evaluate stage wrote. folder: of all models; model: the model's own.

    The limit is that of the search, on the pieces of the text; a text whose pieces were others may be a few off.
    """
    texts = translations.read(folder, model.name, beam=beam, lines=len(sources))
    if not model.exists():  # another's teacher, whose limit is not known
        return Output(model.name, beam, texts, [False] * len(texts))
    pieces = vocab.load(model / checkpoint.VOCAB)
    limits = [beam_search.max_length(min(len(each), MAX_LINE_PIECES)) for each in pieces.encode_all(list(sources))]
    lengths = [len(pieces.encode(*pair)) for pair in zip(texts, sources, strict=True)]
    return Output(model.name, beam, texts, [length >= limit for length, limit in zip(lengths, limits, strict=True)])


def decode(jobs: Iterable[DecodingJob], machine: Machine) -> list[Output]:
    """Return the best hypotheses of each job's sources, each named after its model's folder; a job has one process."""
    return list(pool.map_ordered(_decode, jobs, processes=translator.process_count(machine)))


def _decode(job: DecodingJob) -> Output:
    best = [hypotheses[0] for hypotheses in translator.run(job)]
    texts = vocab.load(job.model / checkpoint.VOCAB).decode_all([each.ids for each in best], job.sources)
    return Output(job.model.name, job.beam, texts, [not each.finished for each in best])


def export_int8(model: Path, folder: Path) -> Path:
    """Write a model with its weights in int8 into a folder; return its own folder, whose name says so."""
    out = folder / f"{model.name} in int8"
    checkpoint.save(out, checkpoint.load(model), card="", precision="int8")
    return out
