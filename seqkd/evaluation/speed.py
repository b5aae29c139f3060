"""Translation speed of several models, measured in turn so that a busy machine slows all of them alike."""

import statistics
import time
from collections.abc import Mapping, Sequence
from datetime import date

from seqkd.data.words import count_words
from seqkd.decoding import beam_search
from seqkd.evaluation.measurements import Speed
from seqkd.models.checkpoint import Model
from seqkd.ops import devices
from seqkd.utils.progress import Progress

WARM_UP_SENTENCES = 8


def measure(
    models: Mapping[str, Model], sources: Sequence[str], *, beams: Sequence[int], length_penalty: float, rounds: int
) -> list[Speed]:
    """Return the speed of each model at each beam size: source words per second, the median of the rounds.

    One process encodes, translates and decodes the text. The networks are frozen: do not train them afterwards.
    """
    words = sum(map(count_words, sources))
    runs = [(name, beam) for name in models for beam in beams]
    speeds: dict[tuple[str, int], list[float]] = {run: [] for run in runs}
    device = next(iter(models.values())).network.device
    for model in models.values():
        model.network.freeze()
    warm_up = sources if device.type == "cuda" else sources[:WARM_UP_SENTENCES]
    for name, beam in runs:  # untimed: the first call loads and compiles code, and on a GPU captures its graphs
        _seconds(models[name], warm_up, beam=beam, length_penalty=length_penalty)
    with Progress(rounds * len(runs), unit="runs", label="speed") as progress:
        for _ in range(rounds):
            for name, beam in runs:
                seconds = _seconds(models[name], sources, beam=beam, length_penalty=length_penalty)
                speeds[name, beam].append(words / seconds)
                progress.add(1, note=f"{name}, beam {beam}")
    measured = f"{devices.device_name(device)}, one process, {date.today().isoformat()}"
    return [
        Speed(model=name, beam=beam, words_per_second=round(statistics.median(values), 1), measured=measured)
        for (name, beam), values in speeds.items()
    ]


def _seconds(model: Model, sources: Sequence[str], *, beam: int, length_penalty: float) -> float:
    """Translate the sources and return how long it took."""
    began = time.perf_counter()
    encoded = [model.vocab.encode(source) for source in sources]
    lists = beam_search.decode(model.network, encoded, beam=beam, length_penalty=length_penalty)
    for (best, *_), source in zip(lists, sources, strict=True):
        model.vocab.decode(best.ids, source)
    return time.perf_counter() - began
