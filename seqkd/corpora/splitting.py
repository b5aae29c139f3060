"""Train, dev and test of a corpus that has no dev or no test of its own: they are split off from train by seed."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from seqkd.corpora import cleaning
from seqkd.corpora.cleaning import Cleaned, Split
from seqkd.corpora.stored import Line
from seqkd.utils.errors import InputError

HELD_OUT = 1000  # lines split off for dev, and for test, where none are given; of fewer than 10 000 lines a tenth
WORD = re.compile(r"\w")


def clean_and_split(
    given: Mapping[str, Sequence[Line]], origin: dict[str, object], *, seed: int, where: Path | str
) -> Cleaned:
    """Remove repeats and overlap, and split the absent parts off from train; a source sentence is in one part only.

    Raise InputError for a text that cannot be trained on.
    """
    cleaned, drops = cleaning.clean_given_split(
        Split(given.get("train", []), given.get("dev", []), given.get("test", []))
    )
    absent = [part for part in ("dev", "test") if part not in given]
    _check_usable(given, cleaned, where, least=1 + len(absent))
    if absent:
        count = min(HELD_OUT, max(1, len(cleaned.train) // 10))
        dev, test = (count * (part in absent) for part in ("dev", "test"))
        try:
            parts, more = cleaning.split(cleaned.train, seed=seed, dev=dev, test=test, by_source=True)
        except InputError:
            raise InputError(
                f"{where}: too few pairs share neither side with another to split off {' and '.join(absent)}; "
                "give dev and test files, beside train files, in a folder."
            ) from None
        cleaned = Split(parts.train, cleaned.dev or parts.dev, cleaned.test or parts.test)
        drops += more
        origin = origin | dict.fromkeys(absent, "split off from train by seed")
    return Cleaned(cleaned, drops, origin)


def _check_usable(given: Mapping[str, Sequence[Line]], cleaned: Split, where: Path | str, *, least: int) -> None:
    """Raise InputError for fewer than `least` different pairs, a part without words, an untranslated text."""
    if "train" in given and len(cleaned.train) < least:
        count = f"{len(cleaned.train)} of {len(given['train'])} training pairs are left"
        raise InputError(
            f"{where}: {count} without repeats, empty sides and what dev and test hold; give {least} or more."
        )
    for part in given:
        if not any(WORD.search(line.source) and WORD.search(line.target) for line in getattr(cleaned, part)):
            raise InputError(f"{where}: no pair of {part} has words on both sides; give it sentences.")
    if cleaned.train and all(line.source == line.target for line in cleaned.train):
        raise InputError(f"{where}: the target of every training pair is its source; give it the translations.")
