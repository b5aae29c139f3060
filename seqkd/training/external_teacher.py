"""The distribution of an external teacher, stored as its top-k targets before a training begins."""

from collections.abc import Iterable
from itertools import islice
from pathlib import Path

import torch

from seqkd.config.machine import Machine
from seqkd.config.teachers import TransformersTeacher, WordTeacher
from seqkd.data.batches import TokenizedCorpus
from seqkd.data.vocab import Vocab
from seqkd.models import forced_decoding, transformers_model
from seqkd.training.teacher import LINES_PER_FILE, TopKCache, file_path, write_file
from seqkd.utils import cache_dir, fingerprint
from seqkd.utils.progress import Progress


def cache(teacher: TransformersTeacher, vocab: Vocab, text: Path, *, top_k: int, max_length: int) -> TopKCache:
    """Return where the top-k targets of this text and teacher are kept.

    The key is that of the teacher's lists: the library and the code, the model's files or name, the languages. So an
    edit of any other code throws none of this work away.
    """
    folder = Path(teacher.model)
    code = fingerprint.of("seqkd.models.forced_decoding")
    key = cache_dir.key(
        repr((transformers_model.version(), torch.__version__, code, LINES_PER_FILE)),
        repr((teacher.source_code, teacher.target_code, top_k, max_length)),
        folder if folder.is_dir() else teacher.model,
        vocab.model,
        text,
    )
    return TopKCache(min(top_k, vocab.size - 1), cache_dir.path("external_top_k_targets") / key)


def write(
    teacher: WordTeacher, vocab: Vocab, cache: TopKCache, text: TokenizedCorpus, *, sources: Iterable[str],
    machine: Machine,
) -> None:  # fmt: skip
    """Write the files of top-k targets that are missing, one after the other. sources: those of the text, as text."""
    parts = {first: slice(first, first + LINES_PER_FILE) for first in range(0, len(text), LINES_PER_FILE)}
    done = sum(len(text.targets[lines]) for first, lines in parts.items() if file_path(cache, first).exists())
    if done == len(text):
        return
    decoder, remaining = forced_decoding.load(teacher.settings, vocab, machine), iter(sources)
    with Progress(len(text), unit="sentences", label=f"distribution of {teacher.name}", done=done) as progress:
        for first, lines in parts.items():
            given, path = list(islice(remaining, LINES_PER_FILE)), file_path(cache, first)
            if not path.exists():
                part = text.part(lines)
                write_file(path, forced_decoding.top_k(decoder, given, part, k=cache.top_k, report=progress.add))
