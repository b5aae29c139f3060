"""What makes a translation teach badly: causes that need no reference."""

from collections import Counter
from collections.abc import Iterable, Sequence

from seqkd.config.schema import Fault
from seqkd.data import placeholders
from seqkd.data.scripts import letters_by_script
from seqkd.data.words import UNSPACED, count_words

JUDGED_WORDS = 4  # a shorter text may well be a name that stays as it is, or as long as three
LENGTH_RATIO = 3.0  # words of the longer side divided by those of the shorter, at most
MAX_PERIOD = 4  # words that come over and over
REPEATS = 4  # so many times in a row


def fault(source: str, target: str, *, script: str = "") -> Fault | None:
    """Return the first cause why a translation teaches badly; None: it is sound.

    script: of the target language, as main_script returns it; "": not known, so no script is another one.
    """
    if not target or placeholders.differ(source, target):
        return "placeholders" if target else "empty"
    sides = sorted((count_words(source), count_words(target)))
    if sides[1] < JUDGED_WORDS:
        return "script" if script and _is_foreign(source, target, script) else None
    if target.casefold() == source.casefold():
        return "copy"
    if script and _is_foreign(source, target, script):
        return "script"
    if _repeats(target) and not _repeats(source):
        return "repetition"
    return "length" if sides[1] > LENGTH_RATIO * max(2, sides[0]) else None


def main_script(texts: Iterable[str]) -> str:
    """Return the script of most letters; "" where there is no letter."""
    counts: Counter[str] = Counter()
    for text in texts:
        counts += letters_by_script(text)
    return max(counts, key=counts.__getitem__, default="")


def _is_foreign(source: str, target: str, script: str) -> bool:
    """Return whether most letters of the target are of another script, and are not simply those of the source."""
    counts = letters_by_script(target)
    return 2 * counts[script] < counts.total() and target.casefold() not in source.casefold()


def _repeats(text: str) -> bool:
    """Return whether up to MAX_PERIOD words, or characters of a script without spaces, come REPEATS times in a row."""
    words: Sequence[str] = text if UNSPACED.search(text) else text.split()
    for period in range(1, MAX_PERIOD + 1):
        run = 0
        for word, later in zip(words, words[period:], strict=False):
            run = run + 1 if word == later and word.isalnum() else 0
            if run == period * (REPEATS - 1):
                return True
    return False
