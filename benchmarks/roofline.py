"""What the machine can do at most with this work: products a second, bytes a second, and the time they leave."""

import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from torch.nn import functional as F

from seqkd.models.lstm import NetworkShape
from seqkd.ops import matmul

PRECISIONS: tuple[matmul.Precision, ...] = ("fp32", "bf16")
ROWS, OUT, IN = 1024, 2000, 1000  # a product of the 2x500 network over some ten time steps of 64 sentences
ADAM = 7 * 4  # bytes moved for each weight by an update: three arrays and the gradient read, three written


class Roofline(NamedTuple):
    torch: float  # GFLOP/s of torch's product in fp32
    own: float  # of this project's
    torch_bf16: float  # inputs of 16 bits
    own_bf16: float
    memory: float  # GB/s of a triad over arrays far beyond the caches

    def rate(self, precision: str) -> float:
        fp32 = max(self.torch, self.own)
        return max(fp32, self.torch_bf16, self.own_bf16) if precision == "bf16" else fp32

    def training(self, shape: NetworkShape, precision: str, *, source: float, target: float, batch_size: int) -> float:
        """Target words a second at most; source, target: mean pieces a sentence, marks included."""
        encoder, word, decoder, output = _weights(shape)
        flop = 3 * 2 * (encoder * source / target + word + decoder + output)
        update = ADAM * (encoder + word + decoder + output + 2 * shape.vocab * shape.hidden) / (self.memory * 1e9)
        return 1 / (flop / (self.rate(precision) * 1e9) + update / (batch_size * target))

    def decoding(self, shape: NetworkShape, precision: str, *, source: float, target: float, beam: int) -> float:
        """Sentences a second at most; the embedding's share of the gates is looked up, not multiplied."""
        encoder, _, decoder, output = _weights(shape)
        flop = 2 * (encoder * source + beam * target * (decoder + output))
        return self.rate(precision) * 1e9 / flop


def _weights(shape: NetworkShape) -> tuple[int, int, int, int]:
    """Multiplied once a word: in the encoder, for the target embedding, in the rest of the decoder, for the output."""
    vocab, layers, hidden = shape[:3]
    square = hidden * hidden
    return 8 * layers * square, 4 * square, 8 * layers * square + 3 * square, vocab * hidden


def _best(work: Callable[[], object], repeats: int) -> float:
    """Seconds of one call, the shortest of many tries."""
    work()
    found = []
    for _ in range(9):
        began = time.process_time()
        for _ in range(repeats):
            work()
        found.append((time.process_time() - began) / repeats)
    return min(found)


def measure() -> Roofline:
    """Of one thread."""
    torch.set_num_threads(1)
    x, weight = torch.randn(ROWS, IN), torch.randn(OUT, IN)
    flop, narrow = 2e-9 * ROWS * OUT * IN, (x.bfloat16(), weight.bfloat16())
    own: list[float] = []
    for precision in PRECISIONS:
        matmul.set_backend("own", precision)
        own.append(flop / _best(partial(matmul.PackedWeight.pack(weight).apply, x, OUT), 3))
    return Roofline(
        torch=flop / _best(lambda: F.linear(x, weight), 3),
        own=own[0],
        torch_bf16=flop / _best(lambda: F.linear(*narrow), 6),
        own_bf16=own[1],
        memory=_bandwidth(),
    )


def _bandwidth() -> float:
    one, other, out = (torch.rand(1 << 26) for _ in range(3))
    rates = [3 * 4e-9 * len(out) / _best(lambda: torch.add(one, other, alpha=3.0, out=out), 1) for _ in range(2)]
    return statistics.median(rates)
