"""A small text and settings to plan for."""

import random
from pathlib import Path

from seqkd.config import schema
from seqkd.config.machine import Machine
from seqkd.config.schema import Params
from seqkd.data import vocab
from seqkd.data.bitext import Pair
from seqkd.planning.plan import Sample

MODELS = ["teacher", "whole"]  # whose speed is measured
DRAW = random.Random(1)
WORDS = ["".join(DRAW.choices("abcdefghij", k=4)) for _ in range(300)]
PAIRS = [Pair(3 * line, *(" ".join(DRAW.choices(WORDS, k=3 + line % 13)) for _ in range(2))) for line in range(600)]


def make(folder: Path, params: Params) -> Sample:
    """Return a sample of 600 pairs; its vocabulary is written to the folder."""
    pieces = vocab.train([side for pair in PAIRS for side in pair[1:]], folder / "joint.model", size=200)
    small = {"teacher": "2x48", "student": "1x24"}
    networks = {
        role: getattr(params, role).model_copy(update={"size": size, "members": 1}) for role, size in small.items()
    }
    others = {"vocab": schema.VocabSettings(size=200), "speed": params.speed.model_copy(update={"models": MODELS})}
    own = params.model_copy(update=networks | others)
    return Sample(own, Machine(processes=1, device="cpu"), pieces, PAIRS, len(PAIRS), 50, 40)
