import pytest

from seqkd.data.scripts import letters_by_script


@pytest.mark.parametrize(
    ("text", "counts"),
    [
        ("Tür 4", {"LATIN": 3}),
        ("4 ...", {}),
        ("漢字とカタカナー", {"CJK": 8}),
        ("да yes", {"CYRILLIC": 2, "LATIN": 3}),
        ("", {}),
    ],
)
def test_letters_are_counted_by_script_and_those_of_east_asia_together(text: str, counts: dict[str, int]) -> None:
    assert letters_by_script(text) == counts
