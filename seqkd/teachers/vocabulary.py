"""The sentencepiece model of an external teacher as the students' vocabulary.

All its pieces stay, with their text, score and kind, in their order; so does its normalizer. A text therefore has the
teacher's own pieces, once both have it in its normal form. What changes are ids: the special pieces come first, in
the order that seqkd has for them, and those that the model lacks are added.
"""

from pathlib import Path
from typing import Any

import sentencepiece

from seqkd.config.schema import VocabSettings
from seqkd.config.teachers import ModelTeacher
from seqkd.data.vocab import BOS, EOS, PAD, UNK, Vocab
from seqkd.utils import cache_dir
from seqkd.utils.errors import InputError

PATTERNS = ("*.spm", "*.model")  # what files of sentencepiece models are called


def of_teacher(name: str, teacher: ModelTeacher, settings: VocabSettings) -> Vocab:
    """Return the vocabulary of a teacher's sentencepiece model.

    The field model_prefix of the sentencepiece model holds a checksum of the teacher's files and languages, which DVC
    cannot see: so a teacher that has changed has another vocabulary, and its students are trained anew. Raise
    InputError where the teacher has no sentencepiece model, several different ones, or one of another size than the
    settings say.
    """
    path = _find(name, teacher)
    languages = repr((teacher.source_code, teacher.target_code))
    origin = f"teacher {cache_dir.key(teacher.kind, languages, path.parent)}"
    vocab = Vocab(_with_own_special_pieces(path, origin=origin), where=path)
    if vocab.size != settings.size:
        raise InputError(
            f"params.yaml: vocab.size is {settings.size}, but the vocabulary of {name} has {vocab.size} pieces with"
            f" the special ones; set it to {vocab.size}."
        )
    return vocab


def _find(name: str, teacher: ModelTeacher) -> Path:
    """Return the file of a teacher's only sentencepiece model; one for each side is one where they are equal."""
    folder = Path(teacher.model)
    if not folder.is_dir():
        raise InputError(f"params.yaml: vocab.from is {name}, but {folder} is no folder; download the model into one.")
    files = sorted(path for pattern in PATTERNS for path in folder.glob(pattern))
    if not files:
        raise InputError(f"{folder} has no sentencepiece model, so {name} gives no vocabulary; remove vocab.from.")
    if len({path.read_bytes() for path in files}) > 1:
        names = ", ".join(path.name for path in files)
        raise InputError(
            f"{folder} has different sentencepiece models ({names}), and the students have one for both languages;"
            " remove vocab.from."
        )
    return files[0]


def _with_own_special_pieces(path: Path, *, origin: str) -> bytes:
    """Return a sentencepiece model with PAD, UNK, BOS and EOS as seqkd has them."""
    try:
        sentencepiece.SentencePieceProcessor(model_file=str(path))
    except (RuntimeError, OSError):
        raise InputError(f"{path}: not a sentencepiece model; copy it anew.") from None
    library = _library()
    model, kinds = library.ModelProto.FromString(path.read_bytes()), library.ModelProto.SentencePiece
    spec = model.trainer_spec
    special = {PAD: spec.pad_piece, UNK: spec.unk_piece, BOS: spec.bos_piece, EOS: spec.eos_piece}
    others = [piece for piece in model.pieces if piece.piece not in special.values()]
    del model.pieces[:]
    for id, text in sorted(special.items()):
        model.pieces.append(kinds(piece=text, score=0.0, type=kinds.UNKNOWN if id == UNK else kinds.CONTROL))
    model.pieces.extend(others)
    spec.pad_id, spec.unk_id, spec.bos_id, spec.eos_id = PAD, UNK, BOS, EOS
    spec.vocab_size, spec.model_prefix = len(model.pieces), origin
    return bytes(model.SerializeToString(deterministic=True))


def _library() -> Any:
    try:
        from sentencepiece import sentencepiece_model_pb2
    except Exception as error:  # protobuf has an error of its own for a version that is too old for sentencepiece
        reason = str(error).split(".")[0]
        raise InputError(f"vocab.from needs protobuf ({reason}); run pip install -U protobuf.") from None
    return sentencepiece_model_pb2
