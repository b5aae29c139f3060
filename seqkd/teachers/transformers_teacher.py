"""An encoder-decoder model of the library transformers, in this process. Its weights must be safetensors."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch

from seqkd.config.machine import Machine
from seqkd.config.schema import DecodeSettings
from seqkd.config.teachers import TransformersTeacher
from seqkd.data.text_lists import TextHypothesis
from seqkd.teachers import ranking
from seqkd.utils import cache_dir, fingerprint
from seqkd.utils.errors import InputError

BATCH_PIECES = 8192  # of sources, padded, times the beam: what one batch may hold in memory
MAX_PIECES = 256  # of a translation


def key(teacher: TransformersTeacher, settings: DecodeSettings) -> str:
    """Return the key of the cache: the library and this code, the model's files or name, the languages, the search."""
    folder, library = Path(teacher.model), _library().__version__
    model = folder if folder.is_dir() else teacher.model
    return cache_dir.key(library, torch.__version__, fingerprint.of(__name__), repr((teacher, settings)), model)


@torch.no_grad()
def translate(
    teacher: TransformersTeacher, settings: DecodeSettings, machine: Machine, chunks: Iterable[list[str]]
) -> Iterator[list[tuple[str, list[TextHypothesis]]]]:
    """Yield the sources of each chunk with their n-best lists; scores are summed log-probabilities."""
    torch.set_num_threads(machine.processes)
    tokenizer, model = _load(teacher, machine)
    for chunk in chunks:
        lists: dict[int, list[TextHypothesis]] = {}
        for rows in _batches(tokenizer, chunk, beam=settings.beam or 1):
            results = _search(tokenizer, model, [chunk[row] for row in rows], teacher=teacher, settings=settings)
            lists |= dict(zip(rows, results, strict=True))
        yield [(source, lists[row]) for row, source in enumerate(chunk)]


def _load(teacher: TransformersTeacher, machine: Machine) -> tuple[Any, Any]:
    library = _library()
    library.logging.set_verbosity_error()
    library.logging.disable_progress_bar()
    languages = {"src_lang": teacher.source_code, "tgt_lang": teacher.target_code}
    given = {name: code for name, code in languages.items() if code and not code.startswith(">>")}
    common = {"local_files_only": not machine.allow_download, "trust_remote_code": False}
    try:
        tokenizer = library.AutoTokenizer.from_pretrained(teacher.model, **given, **common)
        model = library.AutoModelForSeq2SeqLM.from_pretrained(
            teacher.model, use_safetensors=True, dtype=torch.float32, **common
        )
    except (OSError, ValueError, KeyError, ImportError, TypeError) as error:
        reason = (str(error).strip().splitlines() or ["no reason given"])[0].rstrip(".")
        wish = "" if machine.allow_download else ", or set allow_download: true in machine.yaml to fetch it by name"
        raise InputError(
            f"{teacher.model}: transformers cannot load it ({reason}); name the folder of an encoder-decoder model with"
            f" safetensors{wish}."
        ) from None
    return tokenizer, model.eval()


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
    beam, code = settings.beam or 1, teacher.target_code
    is_tag = bool(code and code.startswith(">>"))  # it stands before the source, as >>pt_br<< of the OPUS models does
    inputs = tokenizer(
        [f"{code} {source}" if is_tag else source for source in sources], return_tensors="pt", padding=True
    )
    forced = {"forced_bos_token_id": tokenizer.convert_tokens_to_ids(code)} if code and not is_tag else {}
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


def _library() -> Any:
    try:
        import transformers
    except ModuleNotFoundError:
        raise InputError("a teacher of kind transformers needs its library; install seqkd[transformers].") from None
    return transformers
