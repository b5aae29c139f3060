"""Translate lines of standard input: python translate.py < text.txt. Needs pip install onnxruntime sentencepiece."""

import sys
import unicodedata
from pathlib import Path

import numpy as np
import onnxruntime
import sentencepiece

FOLDER = Path(__file__).resolve().parent
vocab = sentencepiece.SentencePieceProcessor(model_file=str(FOLDER / "vocab.model"))
session = onnxruntime.InferenceSession(FOLDER / "model.onnx", providers=["CPUExecutionProvider"])

for line in sys.stdin:
    text = " ".join(unicodedata.normalize("NFC", line).split())
    ids = vocab.encode(text)
    target = session.run(None, {"source": np.array(ids)})[0].tolist() if ids else []
    print(" ".join(vocab.decode(target).replace("\ufffd", "").split()))  # bytes that make no character
