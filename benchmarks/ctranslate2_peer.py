"""CTranslate2 at work beside us; runs in its own environment: python ctranslate2_peer.py FOLDER

A transformer of 3 + 3 layers, 512 wide, with random weights, which writes as many pieces as it is told to. Each request
is a line [type, beam, nbest, batch, pieces to write, sentences in pieces], each answer seconds and pieces written.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

import ctranslate2
import numpy as np

LAYERS, HEADS, WIDTH, INNER, POSITIONS = 3, 8, 512, 2048, 512


def build(vocabulary: list[str], folder: Path) -> None:
    random = np.random.default_rng(1)

    def filled(spec: Any, *shape: int) -> None:
        spec.weight = random.normal(0, 0.05, shape).astype(np.float32)
        if hasattr(spec, "bias"):
            spec.bias = np.zeros(shape[0], np.float32)

    def normal(spec: Any) -> None:
        spec.gamma, spec.beta = np.ones(WIDTH, np.float32), np.zeros(WIDTH, np.float32)

    def attention(spec: Any, *heights: int) -> None:
        normal(spec.layer_norm)
        for linear, height in zip(spec.linear, heights, strict=True):
            filled(linear, height, WIDTH)

    model = ctranslate2.specs.TransformerSpec.from_config((LAYERS, LAYERS), HEADS)
    for side in (model.encoder, model.decoder):
        tables = side.embeddings if isinstance(side.embeddings, list) else [side.embeddings]
        for table in tables:
            filled(table, len(vocabulary), WIDTH)
        side.position_encodings.encodings = random.normal(0, 0.05, (POSITIONS, WIDTH)).astype(np.float32)
        side.scale_embeddings = True
        normal(side.layer_norm)
        for layer in side.layer:
            attention(layer.self_attention, 3 * WIDTH, WIDTH)
            if side is model.decoder:
                attention(layer.attention, WIDTH, 2 * WIDTH, WIDTH)
            normal(layer.ffn.layer_norm)
            filled(layer.ffn.linear_0, INNER, WIDTH)
            filled(layer.ffn.linear_1, WIDTH, INNER)
    filled(model.decoder.projection, len(vocabulary), WIDTH)
    model.register_source_vocabulary(vocabulary)
    model.register_target_vocabulary(vocabulary)
    model.validate()
    folder.mkdir(exist_ok=True)
    model.save(str(folder))


def main() -> None:
    folder = Path(sys.argv[1])
    pieces = ["<blank>", "<unk>", "<s>", "</s>", *(folder / "vocabulary.txt").read_text(encoding="utf-8").split()]
    build(pieces, folder / "transformer")
    ready: dict[str, ctranslate2.Translator] = {}
    for line in sys.stdin:
        kind, beam, nbest, batch, length, sentences = json.loads(line)
        if kind not in ready:
            ready[kind] = ctranslate2.Translator(
                str(folder / "transformer"), compute_type=kind, inter_threads=1, intra_threads=1
            )
        began = time.process_time()
        found = ready[kind].translate_batch(
            [sentence.split() for sentence in sentences],
            beam_size=beam,
            num_hypotheses=nbest,
            max_batch_size=batch,
            min_decoding_length=length,
            max_decoding_length=length,
        )
        seconds = time.process_time() - began
        print(json.dumps([seconds, [[len(ids) for ids in result.hypotheses] for result in found]]), flush=True)


if __name__ == "__main__":
    main()
