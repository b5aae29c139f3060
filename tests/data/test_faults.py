import pytest

from seqkd.data import faults

FAULTY = {
    "empty": ("a house", ""),
    "placeholders": ("move {name} to %s", "verschiebe {name}"),
    "copy": ("this is one whole sentence", "This is one whole sentence"),
    "script": ("the house is very old", "Дом очень старый и красивый"),
    "repetition": ("the house is very old indeed", "das Haus das Haus das Haus das Haus ist"),
    "length": ("the house", "das Haus ist sehr alt und steht im Wald"),
}
SOUND = {
    "a translation": ("the house is very old", "das Haus ist sehr alt"),
    "a name that stays as it is": ("Home Assistant Cloud", "Home Assistant Cloud"),
    "a name in its own script": ("write Привет to him now please", "schreibe ihm jetzt bitte Привет"),
    "a source that repeats": ("no no no no no, I said", "nein nein nein nein nein, sagte ich"),
    "a short text of another length": ("Try", "Versuche es"),
    "a number": ("12345 67890", "12345 67890"),
    "placeholders in another order": ("move {name} to %s", "nach %s verschiebe {name}"),
}


@pytest.mark.parametrize("cause", FAULTY)
def test_translations_that_teach_badly_are_told_by_their_cause(cause: str) -> None:
    assert faults.fault(*FAULTY[cause], script="LATIN") == cause


@pytest.mark.parametrize("name", SOUND)
def test_translations_that_are_sound_have_no_fault(name: str) -> None:
    assert faults.fault(*SOUND[name], script="LATIN") is None


def test_text_of_a_script_without_spaces_is_judged_by_its_letters() -> None:
    assert faults.main_script(["これは漢字です", "カタカナ"]) == "CJK"
    assert faults.fault("this is a long sentence", "これは長い文です", script="CJK") is None
    assert faults.fault("this is a long sentence", "これこれこれこれこれこれ", script="CJK") == "repetition"
    assert faults.fault("this is a long sentence", "Dies ist ein langer Satz", script="CJK") == "script"


def test_no_script_is_foreign_where_that_of_the_target_is_not_known() -> None:
    assert faults.main_script(["123", "..."]) == ""
    assert faults.fault(*FAULTY["script"]) is None
