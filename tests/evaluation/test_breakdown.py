from seqkd.evaluation import breakdown

TRAIN = ["the cat", "the dog", "The tree", *["a bird"] * 11]


def test_kinds_put_every_line_into_one_kind_of_each_feature() -> None:
    sources = ["the cat sat", "a bird", "a b c d e f", "", "Port 80", "Hello {name}"]
    kinds = breakdown.kinds(sources, TRAIN)
    found = {(kind.feature, kind.name): kind.rows for kind in kinds}
    assert found == {
        ("words in the source", "1 to 5"): [0, 1, 3, 4, 5],
        ("words in the source", "6 to 10"): [2],
        ("lines of the training text with the rarest word", "0"): [0, 2, 3, 4, 5],
        ("lines of the training text with the rarest word", "11 to 100"): [1],
        ("in the source", "a placeholder"): [5],
        ("in the source", "a number"): [4],
        ("in the source", "neither"): [0, 1, 2, 3],
    }


def test_rarest_frequencies_count_lines_and_know_no_case() -> None:
    assert breakdown.rarest_frequencies(["The the", "dog, THE", "a mouse", ""], TRAIN) == [3, 1, 0, 0]


def test_words_are_characters_in_scripts_without_spaces() -> None:
    assert breakdown.words("Don't touch the Z-Wave (1.5)!") == ["don't", "touch", "the", "z-wave", "1", "5"]
    assert breakdown.words("設定 Home を開く") == ["設", "定", "home", "を", "開", "く"]


def test_placeholders_are_what_a_translator_must_copy() -> None:
    for text in ("{host}", "%s", "%(name)d", "$name", "<b>on</b>", "a &amp; b", "http://a.b/c", "me@home.de"):
        assert breakdown.PLACEHOLDER.search(f"see {text} there"), text
    for text in ("100 % sure", "a < b and c > d", "R&D", "costs 5 $", "{}".replace("{", "(")):
        assert not breakdown.PLACEHOLDER.search(text), text
