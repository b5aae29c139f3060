"""One joint subword vocabulary for both languages (sentencepiece BPE)."""

import io
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, NamedTuple

import sentencepiece

from seqkd.config import schema
from seqkd.data import placeholders
from seqkd.data.normalization import normalize
from seqkd.utils import atomic
from seqkd.utils.errors import InputError

PAD, UNK, BOS, EOS = 0, 1, 2, 3
FOLDED = "²ﬁ"  # what sentencepiece's own normalization rewrites
RARE = 0.04  # a character is rare where it stands less than RARE times as often as the average of the pieces


Kind = Literal["normal", "unknown", "control", "byte"]


class Piece(NamedTuple):
    text: str  # with U+2581 for the space before a word; <0xNN> of a byte
    score: float  # of two pairs that could be merged, the one with the higher score is
    kind: Kind


class Vocab:
    """A sentencepiece model, which turns text into piece ids and back; the ids have neither BOS nor EOS.

    Raise InputError, naming where, for bytes that are no sentencepiece model or one with other special pieces.
    """

    def __init__(self, model: bytes, *, where: Path | str = "the vocabulary") -> None:
        self.model = model
        self._processor = sentencepiece.SentencePieceProcessor()
        try:
            self._processor.LoadFromSerializedProto(model)
        except RuntimeError:
            raise InputError(f"{where}: not a sentencepiece model; make it anew with dvc repro.") from None
        special = [getattr(self._processor, f"{name}_id")() for name in ("pad", "unk", "bos", "eos")]
        if special != [PAD, UNK, BOS, EOS]:
            raise InputError(f"{where}: a vocabulary that seqkd did not make; make it anew with dvc repro.")

    @property
    def size(self) -> int:
        return int(self._processor.GetPieceSize())

    @cached_property
    def characters(self) -> frozenset[str]:
        """The characters that are pieces. All others are written as bytes, or are unknown where there are no bytes."""
        pieces = map(self._processor.IdToPiece, range(self.size))
        return frozenset(" ").union(piece for piece in pieces if len(piece) == 1)

    @cached_property
    def placeholders(self) -> int:
        """How many placeholders of a sentence are written as a piece each: those that the vocabulary's text used."""
        return sum(self._processor.PieceToId(sign) != UNK for sign in placeholders.SIGNS)

    @property
    def keeps_text(self) -> bool:
        """Whether the pieces of a text in its normal form are those of the text itself, with nothing folded."""
        return str(self._processor.Normalize(FOLDED)) == f"\u2581{FOLDED}"

    def pieces(self) -> list[Piece]:
        """Return all pieces, in the order of their ids."""
        return [
            Piece(self._processor.IdToPiece(id), self._processor.GetScore(id), self._kind(id))
            for id in range(self.size)
        ]

    def _kind(self, id: int) -> Kind:
        if self._processor.IsByte(id):
            return "byte"
        if self._processor.IsUnknown(id):
            return "unknown"
        return "control" if self._processor.IsControl(id) else "normal"

    def rare_characters(self, text: str) -> list[str]:
        """Return the characters of a text, in its normal form, that are no pieces and in no placeholder."""
        return [character for character in self._masked(text, text) if character not in self.characters]

    def encode(self, text: str, source: str | None = None) -> list[int]:
        """Return the piece ids of a text in its normal form.

        source: the text that numbers the placeholders, where this is a translation of it.
        """
        return list(self._processor.EncodeAsIds(self._masked(text, text if source is None else source)))

    def _masked(self, text: str, source: str) -> str:
        return placeholders.mask(normalize(text), self._placeholders(source))

    def _placeholders(self, source: str) -> list[str]:
        """Return those placeholders of a source that are written as a piece each."""
        return placeholders.find(normalize(source))[: self.placeholders] if self.placeholders else []

    def exceeds(self, text: str, pieces: int) -> bool:
        """Return whether a text has more than so many pieces; a short one is not encoded for the answer."""
        # Of a byte, NFC makes three at most. A piece has at least a byte, but for the space that is put in front.
        size = 3 * len(text.encode("utf-8", "surrogatepass"))
        return size >= pieces and len(self.encode(text)) > pieces

    def encode_all(self, texts: list[str]) -> list[list[int]]:
        return [self.encode(text) for text in texts]

    def decode(self, ids: Iterable[int], source: str) -> str:
        """Return the text of piece ids in its normal form, with the placeholders of the source that it translates.

        A number that the source does not have goes. Raise InputError for an id beyond the vocabulary.
        """
        return self._restored(self._decode(list(ids)), source)

    def decode_all(self, many: Sequence[Sequence[int]], sources: Sequence[str]) -> list[str]:
        """Decode many sentences in one call: far faster than one by one, but slower for a single one."""
        texts = self._decode([list(ids) for ids in many]) if many else []
        return [self._restored(*each) for each in zip(texts, sources, strict=True)]

    def _restored(self, text: str, source: str) -> str:
        if any(sign in text for sign in placeholders.SIGNS[: self.placeholders]):
            text = placeholders.restore(text, self._placeholders(source))
        return normalize(text)

    def _decode(self, ids: list[int] | list[list[int]]) -> Any:
        try:
            return self._processor.Decode(ids, num_threads=1)
        except (IndexError, TypeError):  # TypeError: beyond 32 bits
            raise InputError(
                f"a piece's id is beyond the vocabulary's {self.size} pieces, so these ids are of another vocabulary; "
                "decode the text anew."
            ) from None


def load(path: Path) -> Vocab:
    """Load a sentencepiece model. Raise InputError for another file."""
    return Vocab(path.read_bytes(), where=path)


def sample(texts: Iterable[str], *, most: int) -> list[str]:
    """Return the texts, or at most so many of them, spread over all.

    Of more than `most` every second one is taken, of more than twice so many every fourth, and so on.
    """
    step, kept = 1, list[str]()
    for number, text in enumerate(texts):
        if number % step == 0:
            kept.append(text)
        if len(kept) > most:
            step, kept = 2 * step, kept[::2]
    return kept


def train(
    texts: Iterable[str],
    path: Path,
    *,
    size: int,
    character_coverage: float | Literal["auto"] = "auto",
    byte_fallback: bool = False,
) -> Vocab:
    """Learn and write a joint BPE vocabulary of exactly `size` pieces.

    character_coverage: the fraction of all characters of the texts that are pieces; the rarest ones are not. auto:
    those that stand too seldom to be worth a piece are not; without bytes, all are.
    byte_fallback: 256 of the pieces are bytes, which write every other character.
    Where texts hold placeholders, as many pieces are reserved for their numbers as a single text needs, at most 9.
    Raise InputError where the text is too small for so many pieces, or the size for its characters.
    """
    lines, used = list[str](), 0
    for line in map(normalize, texts):
        found = placeholders.find(line)
        lines.append(placeholders.mask(line, found))
        used = max(used, len(found))
    signs = placeholders.SIGNS[:used]
    if character_coverage == "auto":
        character_coverage = _coverage(lines, size) if byte_fallback else 1.0
    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.Train(
            sentence_iterator=iter(lines),
            model_writer=model,
            model_type="bpe",
            vocab_size=size,
            character_coverage=character_coverage,
            byte_fallback=byte_fallback,
            normalization_rule_name="identity",  # the texts are normal already; the default folds ² into 2
            remove_extra_whitespaces=False,
            pad_id=PAD,
            unk_id=UNK,
            bos_id=BOS,
            eos_id=EOS,
            user_defined_symbols=list(signs),
            num_threads=1,
            max_sentence_length=1 << 20,
            minloglevel=2,
        )
    except RuntimeError as error:
        raise InputError(f"params.yaml: vocab.size is {size}, which this text cannot give; {_remedy(error)}.") from None
    with atomic.atomic_write(path) as partial:
        partial.write_bytes(model.getvalue())
    return Vocab(model.getvalue())


def _coverage(lines: Sequence[str], size: int) -> float:
    """Return the fraction of all characters that are frequent enough to be worth one of so many pieces."""
    counts: Counter[str] = Counter()
    for line in lines:
        counts.update(f" {line}")  # sentencepiece sets a space before each line
    total = counts.total()
    return sum(count for count in counts.values() if count * size >= RARE * total) / max(1, total)


def _remedy(error: RuntimeError) -> str:
    """Return what to do about a size that sentencepiece refuses."""
    if limit := re.search(r"<= (\d+)", str(error)):
        possible = int(limit[1]) >= schema.MIN_VOCAB_SIZE
        return f"set it to {limit[1]} at most, or give more text" if possible else "the text is too small, so give more"
    if characters := re.search(r"required_chars\. \d+ vs (\d+)", str(error)):
        return f"its bytes and single characters are {characters[1]}; set it well above that, or byte_fallback to false"
    return "it has no word, or only lines of more than a million characters, so give another text"
