"""Words per second of several models, measured alternately so that a busy machine slows all of them alike."""

import statistics
import time
from collections.abc import Mapping, Sequence
from datetime import date

from seqkd.decoding import beam_search
from seqkd.models.checkpoint import Model
from seqkd.ops import devices
from seqkd.utils.progress import Progress


def measure(
    models: Mapping[str, Model], sources: Sequence[str], *, beams: Sequence[int], length_penalty: float, rounds: int
) -> list[dict[str, str | int | float]]:
    """For each model and beam: source words per second from text to text, the median of the rounds, in this process.

    normalise: of the search, that of the BLEU beside it. measured: on what, and when. The models' weights may not
    change any more.
    """
    words = sum(len(source.split()) for source in sources)
    pairs = [(name, beam) for name in models for beam in beams]
    speeds: dict[tuple[str, int], list[float]] = {pair: [] for pair in pairs}
    device = next(iter(models.values())).network.output.device
    for model in models.values():
        model.network.freeze()
    for name, beam in pairs:  # the first call loads and compiles, and on a GPU records
        _seconds(models[name], sources if device.type == "cuda" else sources[:8], beam, length_penalty)
    with Progress(rounds * len(pairs), unit="runs", label="speed") as progress:
        for _ in range(rounds):
            for name, beam in pairs:
                speeds[name, beam].append(words / _seconds(models[name], sources, beam, length_penalty))
                progress.add(1, note=f"{name}, beam {beam}")
    where = f"{devices.device_name(device)}, one process, {date.today().isoformat()}"
    return [
        {"model": name, "beam": beam, "words_per_second": round(statistics.median(found), 1), "measured": where}
        for (name, beam), found in speeds.items()
    ]


def _seconds(model: Model, sources: Sequence[str], beam: int, length_penalty: float) -> float:
    began = time.perf_counter()
    coded = [model.vocab.encode(source) for source in sources]
    for best, *_ in beam_search.decode(model.network, coded, beam=beam, length_penalty=length_penalty):
        model.vocab.decode(best.ids)
    return time.perf_counter() - began
