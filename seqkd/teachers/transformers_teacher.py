"""An encoder-decoder model of the library transformers, in this process. Its weights must be safetensors."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch

from seqkd.config.machine import Machine
from seqkd.config.schema import DecodeSettings
from seqkd.config.teachers import TransformersTeacher
from seqkd.data.text_lists import TextHypothesis
from seqkd.models import transformers_model
from seqkd.teachers import ranking
from seqkd.utils import cache_dir, fingerprint

BATCH_PIECES = 8192  # of sources, padded, times the beam: what one batch may hold in memory
MAX_PIECES = 256  # of a translation


def key(teacher: TransformersTeacher, settings: DecodeSettings) -> str:
    """Return the key of the cache: the library and this code, the model's files or name, the languages, the search."""
    folder, library = Path(teacher.model), transformers_model.version()
    model = folder if folder.is_dir() else teacher.model
    return cache_dir.key(library, torch.__version__, fingerprint.of(__name__), repr((teacher, settings)), model)


@torch.no_grad()
def translate(
    teacher: TransformersTeacher, settings: DecodeSettings, machine: Machine, chunks: Iterable[list[str]]
) -> Iterator[list[tuple[str, list[TextHypothesis]]]]:
    """Yield the sources of each chunk with their n-best lists; scores are summed log-probabilities."""
    torch.set_num_threads(machine.processes)
    tokenizer, model = transformers_model.load(teacher, machine)
    for chunk in chunks:
        lists: dict[int, list[TextHypothesis]] = {}
        for rows in _batches(tokenizer, chunk, beam=settings.beam or 1):
            results = _search(tokenizer, model, [chunk[row] for row in rows], teacher=teacher, settings=settings)
            lists |= dict(zip(rows, results, strict=True))
        yield [(source, lists[row]) for row, source in enumerate(chunk)]


def _batches(tokenizer: Any, chunk: list[str], *, beam: int) -> Iterator[list[int]]:
    """Yield the rows of a chunk in batches of like length that hold BATCH_PIECES at most, or one row."""
    lengths = [len(ids) for ids in tokenizer(chunk)["input_ids"]]
    rows: list[int] = []
    for row in sorted(range(len(chunk)), key=lambda row: (lengths[row], row)):
        if rows and (len(rows) + 1) * lengths[row] * beam > BATCH_PIECES:
            yield rows
            rows = []
        rows.append(row)
    if rows:
        yield rows


def _search(
    tokenizer: Any, model: Any, sources: list[str], *, teacher: TransformersTeacher, settings: DecodeSettings
) -> list[list[TextHypothesis]]:
    """Return the n-best list of each source."""
    beam, first = settings.beam or 1, transformers_model.forced_bos(tokenizer, teacher)
    inputs = transformers_model.inputs(tokenizer, sources, teacher)
    forced = {} if first is None else {"forced_bos_token_id": first}
    found = model.generate(
        **inputs,
        **forced,
        num_beams=beam,
        num_return_sequences=beam,
        do_sample=False,
        length_penalty=0.0,
        max_new_tokens=MAX_PIECES,
        return_dict_in_generate=True,
        output_scores=True,
    )
    texts = tokenizer.batch_decode(found.sequences, skip_special_tokens=True)
    lengths = (found.sequences[:, 1:] != model.config.pad_token_id).sum(1).tolist()
    finished = [length < MAX_PIECES for length in lengths]
    entries = list(zip(map(TextHypothesis, texts, _scores(model, found, beam=beam), finished), lengths, strict=True))
    starts = range(0, len(entries), beam)
    return [ranking.ranked(entries[start : start + beam], length_penalty=settings.length_penalty) for start in starts]


def _scores(model: Any, found: Any, *, beam: int) -> list[float]:
    """Return the summed log-probability of each sequence; a beam of one, which is greedy, has its words' alone."""
    if beam > 1:
        return list(map(float, found.sequences_scores))
    steps = model.compute_transition_scores(found.sequences, found.scores, normalize_logits=True)
    return list(map(float, steps.masked_fill(found.sequences[:, 1:] == model.config.pad_token_id, 0.0).sum(1)))
