"""One joint subword vocabulary for both languages (sentencepiece BPE)."""

import io
from collections.abc import Iterable
from pathlib import Path

import sentencepiece

from seqkd.errors import InputError

PAD, UNK, BOS, EOS = 0, 1, 2, 3


class Vocab:
    """Text to piece ids and back; ids carry no sentence marks unless said otherwise."""

    def __init__(self, model: bytes) -> None:
        self.model = model
        self._processor = sentencepiece.SentencePieceProcessor()
        try:
            self._processor.LoadFromSerializedProto(model)
        except RuntimeError:
            raise InputError("The vocabulary is not a sentencepiece model; make it anew with dvc repro.") from None

    @property
    def size(self) -> int:
        return int(self._processor.GetPieceSize())

    def encode(self, text: str) -> list[int]:
        return list(self._processor.EncodeAsIds(text))

    def encode_all(self, texts: list[str]) -> list[list[int]]:
        return [self.encode(text) for text in texts]

    def decode(self, ids: Iterable[int]) -> str:
        return str(self._processor.DecodeIds(list(ids))).strip()

    def decode_all(self, many: list[list[int]]) -> list[str]:
        return [self.decode(ids) for ids in many]


def load(path: Path) -> Vocab:
    return Vocab(path.read_bytes())


def train(texts: Iterable[str], path: Path, *, size: int) -> Vocab:
    """Learns a joint BPE vocabulary of exactly size pieces; InputError when the text cannot fill it."""
    written = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.Train(
            sentence_iterator=iter(texts),
            model_writer=written,
            model_type="bpe",
            vocab_size=size,
            character_coverage=1.0,
            pad_id=PAD,
            unk_id=UNK,
            bos_id=BOS,
            eos_id=EOS,
            num_threads=1,
            max_sentence_length=1 << 20,
            minloglevel=2,
        )
    except RuntimeError as error:
        reason = str(error).split("]")[-1].strip().split("\n")[0]
        raise InputError(f"params.yaml: vocab.size is {size}, which this text cannot give ({reason}).") from None
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    partial.write_bytes(written.getvalue())
    partial.replace(path)
    return Vocab(written.getvalue())
