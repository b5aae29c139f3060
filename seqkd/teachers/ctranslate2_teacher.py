"""A model that CTranslate2 has converted, in this process. Its folder holds its sentencepiece models too."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import sentencepiece

from seqkd.config import yaml_file
from seqkd.config.machine import Machine
from seqkd.config.schema import DecodeSettings
from seqkd.config.teachers import CTranslate2Teacher
from seqkd.data.text_lists import TextHypothesis
from seqkd.teachers import ranking
from seqkd.utils import cache_dir, fingerprint
from seqkd.utils.errors import InputError

BATCH_PIECES = 8192  # of sources, padded, times the beam: what one batch may hold in memory
MAX_PIECES = 256  # of a translation
EOS = "</s>"
SOURCE_PIECES = (
    "source.spm",
    "sentencepiece.bpe.model",
    "sentencepiece.model",
    "spm.model",
    "*.spm",
)  # as they are called
TARGET_PIECES = ("target.spm", *SOURCE_PIECES[1:])


def key(teacher: CTranslate2Teacher, settings: DecodeSettings) -> str:
    """Return the key of the cache: the library and this code, the model's files, the languages and the search."""
    library = _library().__version__
    return cache_dir.key(library, fingerprint.of(__name__), repr((teacher, settings)), _folder(teacher))


def translate(
    teacher: CTranslate2Teacher, settings: DecodeSettings, machine: Machine, chunks: Iterable[list[str]]
) -> Iterator[list[tuple[str, list[TextHypothesis]]]]:
    """Yield the sources of each chunk with their n-best lists; scores are summed log-probabilities."""
    folder, beam = _folder(teacher), settings.beam or 1
    source_pieces, target_pieces = (_pieces(folder, names) for names in (SOURCE_PIECES, TARGET_PIECES))
    try:
        model = _library().Translator(str(folder), device="cpu", inter_threads=machine.processes, intra_threads=1)
    except (RuntimeError, ValueError) as error:
        raise InputError(f"{folder}: CTranslate2 cannot load it ({str(error).rstrip('.')}); convert it anew.") from None
    prefix, ends = _source_prefix(teacher), [EOS] if _wants_eos(folder) else []
    target = None if teacher.target_code in prefix else teacher.target_code
    for chunk in chunks:
        tokens = [[*prefix, *source_pieces.encode(source, out_type=str), *ends] for source in chunk]
        results = model.translate_batch(
            tokens,
            target_prefix=[[target]] * len(tokens) if target else None,
            beam_size=beam,
            num_hypotheses=beam,
            length_penalty=0,
            return_scores=True,
            max_batch_size=max(1, BATCH_PIECES // beam),
            batch_type="tokens",
            min_decoding_length=0,  # to forbid an empty translation would change the other scores
            max_decoding_length=MAX_PIECES,
            max_input_length=0,
        )
        yield [
            (source, _hypotheses(result, target_pieces, target=target, length_penalty=settings.length_penalty))
            for source, result in zip(chunk, results, strict=True)
        ]


def _hypotheses(result: Any, pieces: Any, *, target: str | None, length_penalty: float) -> list[TextHypothesis]:
    entries = []
    for hypothesis, score in zip(result.hypotheses, result.scores, strict=True):
        words = [piece for piece in hypothesis if piece not in (EOS, target)]
        finished = len(hypothesis) < MAX_PIECES
        entries.append((TextHypothesis(pieces.decode(words), float(score), finished), len(words) + 1))
    return ranking.ranked(entries, length_penalty=length_penalty)


def _is_tag(code: str) -> bool:
    """Return whether a target's code stands before the source, as >>pt_br<< of the OPUS models does."""
    return code.startswith(">>")


def _source_prefix(teacher: CTranslate2Teacher) -> list[str]:
    tag = teacher.target_code if teacher.target_code and _is_tag(teacher.target_code) else None
    return [code for code in (tag, teacher.source_code) if code]


def _wants_eos(folder: Path) -> bool:
    """Return whether a source must end with EOS: models from Marian and transformers, unless CTranslate2 adds it."""
    path = folder / "config.json"
    config = yaml_file.read(path) if path.exists() else {}  # JSON is YAML
    if not isinstance(config, dict):
        raise InputError(f"{path}: not a JSON object; convert the model anew.")
    return not config.get("add_source_eos", False) and config.get("decoder_start_token") in ("<pad>", EOS)


def _pieces(folder: Path, names: Sequence[str]) -> Any:
    """Return the sentencepiece model of one side. Raise InputError for none or several."""
    for name in names:
        found = sorted(folder.glob(name))
        if len(found) > 1:
            raise InputError(f"{folder} has several files {name}; call those of the model source.spm and target.spm.")
        if found:
            try:
                return sentencepiece.SentencePieceProcessor(model_file=str(found[0]))
            except (RuntimeError, OSError):
                raise InputError(f"{found[0]}: not a sentencepiece model; copy it anew.") from None
    raise InputError(
        f"{folder} has no sentencepiece model; put source.spm and target.spm, or one sentencepiece.model, into it."
    )


def _folder(teacher: CTranslate2Teacher) -> Path:
    folder = Path(teacher.model)
    if not (folder / "model.bin").exists():
        raise InputError(f"{folder} has no model.bin, so it is no model of CTranslate2; convert one into it.")
    return folder


def _library() -> Any:
    try:
        import ctranslate2
    except ModuleNotFoundError:
        raise InputError("a teacher of kind ctranslate2 needs CTranslate2; install seqkd[ctranslate2].") from None
    return ctranslate2
