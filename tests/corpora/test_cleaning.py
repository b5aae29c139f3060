import random
import tracemalloc

import pytest

from seqkd.corpora import cleaning
from seqkd.corpora.cleaning import Cleaning, Split, WordLimits
from seqkd.corpora.stored import Line, LineWriter
from seqkd.utils.errors import InputError

LIMITS = Cleaning(
    source_words=WordLimits(least=2, most=6), target_words=WordLimits(least=1, most=6), ratio=2.5, numbered=2
)


def _line(source: str, target: str, group: str = "g") -> Line:
    return Line(group, source, target)


@pytest.mark.parametrize(
    ("text", "tidied"),
    [
        ("Press <b>Start</b><br>now", "Press Start now"),
        ("Fish &amp; chips", "Fish & chips"),
        ("**Open** the &File menu", "Open the File menu"),
        ("a\u00a0 b\n\tc", "a b c"),
        ("Tu\u0308r", "Tür"),
        ("3 < 4", "3 < 4"),
    ],
)
def test_tidy_takes_markup_away_and_leaves_the_text(text: str, tidied: str) -> None:
    assert cleaning.tidy(text) == tidied


def test_key_ignores_case_punctuation_and_spaces() -> None:
    assert cleaning.key("The  door, is OPEN!") == cleaning.key("the door is open") == "the door is open"
    assert cleaning.key("!?") == "!?"


def test_key_ignores_the_names_of_placeholders_but_not_that_they_are_there() -> None:
    assert cleaning.key("Delete {name} ({size})?") == cleaning.key("delete %s %d") != cleaning.key("Delete")
    assert cleaning.key("{a} of {b}") == cleaning.key("%s of {a}") != cleaning.key("{a} of {a}")


@pytest.mark.parametrize(
    ("source", "target", "cause"),
    [
        ("Open the door", "Öffne die Tür", None),
        ("Open the door", "", "an empty side"),
        ("Open {name} now", "Öffne {name} jetzt", None),
        ("{count, number} of {total} doors", "{total} Türen, {count, number} davon", None),
        ("{a, number} {b, number} {c, date} doors are open", "{a, number} {b, number} {c, date} Türen sind auf", None),
        ("Open {name} now", "Öffne die Tür", cleaning.DIFFERENT),
        ("Open the door", "Öffne %s", cleaning.DIFFERENT),
        ("Open %s and %s", "Öffne %s", cleaning.DIFFERENT),
        ("Open {{ states('x') }}", "Öffne {{ states('x') }}", "address, template or code"),
        ("Open `{name}` now", "Öffne `{name}` jetzt", "address, template or code"),
        ("{0}{1}{2}{3}{4}{5}{6}{7}{8}{9} now", "{0}{1}{2}{3}{4}{5}{6}{7}{8}{9} da", "address, template or code"),
        ("{name} ({count})", "{name}: {count}", "not translated"),
        ("{name} or {count} or {size}", "{name} oder {count} oder {size}", "mostly codes and values"),
        ("Open the door", "Siehe www.example.org dort", "address, template or code"),
        ("Open the door", "open the door!", "not translated"),
        ("Open", "Öffne", "source too short or too long"),
        ("a b c d e f g", "Öffne die Tür", "source too short or too long"),
        ("Open the door", "a b c d e f g", "target too short or too long"),
        ("Open the front door", "Vordertür", "lengths too unequal"),
        ("6 - 7/8+ 9", "7 - 8/9+ 0", "mostly codes and values"),
    ],
)
def test_drop_reason_names_the_cause(source: str, target: str, cause: str | None) -> None:
    assert cleaning.drop_reason(_line(source, target), LIMITS) == cause


def test_clean_keeps_a_pair_once_and_a_numbered_pair_as_often_as_allowed() -> None:
    lines = [_line("Open the door", "Öffne die Tür"), _line("open the door!", "Öffne die Tür.")]
    lines += [_line(f"Button {number} was pressed", f"Taste {number} gedrückt") for number in range(5)]
    kept, drops = cleaning.clean(lines, LIMITS)
    assert [line.source for line in kept] == ["Open the door", "Button 0 was pressed", "Button 1 was pressed"]
    assert drops == {"repeated": 1, "repeated with other numbers": 3}
    assert len(kept) + drops.total() == len(lines)


def test_clean_counts_different_placeholders_and_keeps_a_pair_once_whatever_they_are_called() -> None:
    lines = [_line(f"Open {name} now", f"Öffne {name} jetzt") for name in ("{door}", "%s", "{window}")]
    lines += [_line("Shut {name} now", "Schließe {nome} jetzt")]
    kept, drops = cleaning.clean(lines, LIMITS)
    assert kept == lines[:1]
    assert drops == {"repeated": 2, cleaning.DIFFERENT: 1}


def test_source_alone_may_have_placeholders_but_no_code() -> None:
    assert cleaning.source_drop_reason("Open %(name)s now", LIMITS) is None
    assert cleaning.source_drop_reason("Open {name now", LIMITS) == "address, template or code"


def test_clean_given_split_drops_different_placeholders_from_train_alone() -> None:
    odd = [_line("Open {name} now", "Öffne die Tür"), _line("Open it", "Öffne %s")]
    kept = [_line("{a} and {b}", "{b} und {a}")]
    parts, drops = cleaning.clean_given_split(Split([*odd, *kept], odd[:1], odd[1:]))
    assert parts == Split(kept, odd[:1], odd[1:])
    assert drops == {f"train, {cleaning.DIFFERENT}": 2}


def _many() -> list[Line]:
    """40 groups of 5 lines of their own and one that all share."""
    groups = [[_line(f"source {group} {n}", f"Ziel {group} {n}", f"g{group}") for n in range(5)] for group in range(40)]
    return [line for number, lines in enumerate(groups) for line in [*lines, _line("yes", "ja", f"g{number}")]]


def test_split_holds_out_whole_groups_and_nothing_that_train_has() -> None:
    lines = _many()
    parts, drops = cleaning.split(lines, seed=3, dev=50, test=50)
    assert (len(parts.dev), len(parts.test)) == (50, 50)
    groups = [{line.group for line in part} for part in parts]
    assert sum(map(len, groups)) == len(set.union(*groups))
    assert ("yes", "ja") not in {(line.source, line.target) for line in [*parts.dev, *parts.test]}
    assert drops == {"dev, seen in train or test": 10, "test, seen in train": 10}
    assert sum(map(len, parts)) + drops.total() == len(lines)


def test_split_of_a_group_depends_only_on_seed_and_name() -> None:
    lines = _many()
    parts, _ = cleaning.split(lines, seed=3, dev=50, test=50)
    mixed = random.Random(0).sample(lines, len(lines))
    again, _ = cleaning.split(mixed, seed=3, dev=50, test=50)
    other, _ = cleaning.split(lines, seed=4, dev=50, test=50)
    assert set(parts.test) == set(again.test) != set(other.test)
    assert cleaning.split(lines, seed=3, dev=50, test=50)[0] == parts


def test_split_leaves_a_group_of_more_than_a_tenth_of_test_in_train() -> None:
    large = [_line(f"long {number}", f"lang {number}", "large") for number in range(6)]
    for seed in range(5):
        parts, _ = cleaning.split([*_many(), *large], seed=seed, dev=50, test=50)
        assert set(large) <= set(parts.train)


def test_split_refuses_a_corpus_too_small_to_hold_out() -> None:
    with pytest.raises(InputError, match="only 200 lines to hold out for test, not 300; ask for fewer"):
        cleaning.split(_many(), seed=3, dev=1, test=300)


def test_clean_given_split_keeps_test_and_removes_the_overlap_from_train() -> None:
    train = [_line("a b", "c d"), _line("a b", "c d"), _line("Good day", "Guten Tag"), _line("e", ""), _line("f", "g")]
    test = [_line("good day!", "Tag"), _line("good day!", "Tag"), _line("h", "i")]
    parts, drops = cleaning.clean_given_split(Split(train, [_line("j", "G.")], [*test, _line("", "k"), _line("k", "")]))
    assert parts.test == test
    assert parts.train == [_line("a b", "c d")]
    assert drops == {
        "train, an empty side": 1,
        "test, an empty side": 2,
        "train, repeated": 1,
        "train, seen in dev or test": 2,
    }


def test_split_holds_out_no_group_that_is_for_training_alone() -> None:
    lines = [Line(f"group {row % 20}", f"source {row}", f"target {row}") for row in range(400)]
    free, _ = cleaning.split(lines, seed=3, dev=40, test=40)
    held_out = {line.group for line in (*free.dev, *free.test)}
    bound, _ = cleaning.split(lines, seed=3, dev=40, test=40, train_only=held_out)
    assert held_out
    assert not held_out & {line.group for line in (*bound.dev, *bound.test)}
    assert bound.dev
    assert bound.test


def test_cleaning_and_splitting_take_a_few_bytes_of_memory_for_each_line() -> None:
    def peak(count: int) -> int:
        writer = LineWriter()
        for number in range(count):
            writer.add(f"source {number}", f"Ziel {number}")
        lines = writer.finish()
        tracemalloc.start()
        cleaned, _ = cleaning.clean_given_split(Split(lines, [], []))
        cleaning.split(cleaned.train, seed=1, dev=20, test=20, by_source=True)
        taken = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return taken

    peak(100)
    assert peak(4000) - peak(1000) < 3000 * 40  # 20 beside what is the same for a larger corpus
