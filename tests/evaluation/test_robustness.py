import pytest

from seqkd.evaluation import robustness

LATIN = frozenset({"LATIN"})


@pytest.mark.parametrize(
    ("source", "output", "expected"),
    [
        ("Open the door.", "Öffne die Tür.", []),
        ("Open the door.", "Öffne die Tür die Tür.", ["repeated"]),
        ("Open the door.", "Öffne Öffne Tür.", ["repeated"]),
        ("The one that opens", "Die, die die Tür öffnet", []),
        ("Price", "Preis is is is", ["repeated"]),
        ("Price", "Freisikikikikik", ["repeated"]),
        ("bye bye", "bye bye", ["copied"]),
        ("A very very old door", "Eine sehr sehr sehr alte Tür", []),
        ("Open the door. Then go", "Öffne die Tür. Die Tür", []),
        ("404", "404", []),
        ("Wait 1,275.5 h", "Warte 1.275,5 h", []),
        ("Wait 30 s", "Warte 31 s", ["numbers"]),
        ("Wait 30 s", "Warte", ["numbers"]),
        ("Wait", "Warte 3", ["numbers"]),
        ("Wait for {name}", "{name} abwarten", []),
        ("Wait for {name}", "Warte auf Name", ["placeholders"]),
        ("Wait for {name}", "{name}, warte auf {name}", ["placeholders"]),
        ("Wait", " ", ["empty"]),
        ("", "", []),
        ("Wait", "Подожди", ["script"]),
        ("Wait, Вася", "Warte, Вася", []),
        ("Wait", "等等 wait", ["script"]),
        ("Wait, スーパー", "Warte, スーパー", []),
    ],
)
def test_faults_are_those_that_a_reader_sees(source: str, output: str, expected: list[str]) -> None:
    assert robustness.faults(source, output, scripts=LATIN) == expected


def test_faults_name_an_output_as_long_as_the_search_allows() -> None:
    assert robustness.faults("Wait", "Warte und", at_limit=True, scripts=LATIN) == ["at_limit"]


def test_faults_of_a_very_long_line_take_no_time() -> None:
    for text in ("a" * 10_000, "ab " * 3_000, "x1" * 5_000):
        assert "repeated" in robustness.faults("Wait", text, scripts=LATIN)
    assert not robustness.repeats(" ".join(map(str, range(10_000))))


def test_common_scripts_leave_out_strays() -> None:
    assert robustness.common_scripts(["Ein Haus mit Garten " * 20, "ж"]) == LATIN
    assert robustness.common_scripts(["日本語 カナ かな"]) == {"CJK"}


def test_hard_lines_are_there_for_english_alone_and_hold_what_they_say() -> None:
    lines = {line.kind: line.text for line in robustness.hard_lines("en")}
    assert robustness.hard_lines("en-GB") == robustness.hard_lines("en")
    assert robustness.hard_lines("th") == []
    assert lines["empty"] == ""
    assert len(lines["one word"].split()) == 1
    assert len(lines["60 words"].split()) >= 60
    assert lines["all capitals"].isupper()
    assert not lines["no full stop"].endswith(".")


def test_count_faults_counts_lines() -> None:
    counts = robustness.count_faults([["empty"], ["numbers", "script"], [], ["numbers"]])
    assert counts == dict.fromkeys(robustness.FAULTS, 0) | {"numbers": 2, "empty": 1, "script": 1}
