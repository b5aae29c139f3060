"""Translate lines of standard input: python translate.py < text.txt. Needs pip install onnxruntime sentencepiece."""

import sys
import unicodedata
from pathlib import Path

import numpy as np
import onnxruntime
import sentencepiece

from seqkd.data import placeholders

FOLDER = Path(__file__).resolve().parent
vocab = sentencepiece.SentencePieceProcessor(model_file=str(FOLDER / "vocab.model"))
count = sum(vocab.piece_to_id(sign) != vocab.unk_id() for sign in placeholders.SIGNS)  # that have a piece
session = onnxruntime.InferenceSession(FOLDER / "model.onnx", providers=["CPUExecutionProvider"])

for line in sys.stdin:
    text = " ".join(unicodedata.normalize("NFC", line).split())
    found = placeholders.find(text)[:count]
    ids = vocab.encode(placeholders.mask(text, found))
    target = session.run(None, {"source": np.array(ids)})[0].tolist() if ids else []
    text = placeholders.restore(vocab.decode(target), found)
    print(" ".join(text.replace("\ufffd", "").split()))  # bytes that make no character
