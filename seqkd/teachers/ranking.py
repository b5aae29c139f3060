"""The order of hypotheses that a teacher in this process gives."""

from collections.abc import Sequence

from seqkd.data.text_lists import TextHypothesis


def ranked(entries: Sequence[tuple[TextHypothesis, int]], *, length_penalty: float) -> list[TextHypothesis]:
    """Return hypotheses, given with their lengths in pieces, by log-probability / length ** length_penalty."""

    def key(entry: tuple[TextHypothesis, int]) -> float:
        hypothesis, length = entry
        divisor: float = length**length_penalty
        return -(hypothesis.score or 0.0) / divisor

    return [hypothesis for hypothesis, _ in sorted(entries, key=key)]
