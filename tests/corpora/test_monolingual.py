import tracemalloc
from pathlib import Path

import pytest

from seqkd.config.schema import DataSettings
from seqkd.corpora import mtdata, wheels
from seqkd.corpora.monolingual import Lines
from seqkd.corpora.stored import Line
from seqkd.data.bitext import Pair
from seqkd.utils.errors import InputError

TRAIN = [Pair(0, "a house", "ein Haus"), Pair(1, "a cat", "eine Katze")]
GROUP = "components/lamp/{language}.json"
HELD_OUT = [Pair(2, "The door!", "Die Tür!"), Pair(3, "a tree", "ein Baum")]


def lines(monolingual: Path | str, folder: Path, *, train: list[Pair] = TRAIN) -> Lines:
    data = DataSettings(corpus="own", source="en", target="de", max_length=80, tidy=False, monolingual=str(monolingual))
    return Lines(data, train=train, held_out=HELD_OUT, held_out_groups={GROUP}, downloads=folder)


def write(folder: Path, text: str) -> Path:
    path = folder / "mono.en"
    path.write_text(text, encoding="utf-8")
    return path


def test_monolingual_lines_are_pairs_with_an_empty_target_after_all_others(tmp_path: Path) -> None:
    own = lines(write(tmp_path, "one  line\ntwo lines\n"), tmp_path)
    assert list(own) == [Pair(4, "one line", ""), Pair(5, "two lines", "")]
    assert own.add_counts({"pairs": {"train": 2}, "dropped": {}})["pairs"] == {"train": 2, "monolingual": 2}


def test_monolingual_lines_leave_out_what_is_empty_repeated_or_held_out(tmp_path: Path) -> None:
    own = lines(write(tmp_path, "new\n\nnew\na house\nthe door\n\u00ad\n"), tmp_path)
    assert [pair.source for pair in own] == ["new"]
    assert own.drops == {"monolingual, empty": 2, "monolingual, repeated": 2, "monolingual, seen in dev or test": 1}


def test_monolingual_lines_of_a_component_in_dev_or_test_are_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = [Line(GROUP, "turn on the lamp", ""), Line("components/door/{language}.json", "open the door", "")]
    monkeypatch.setattr(wheels, "sources", lambda *_, **__: iter(texts))
    own = lines("corpora/homeassistant.yaml", tmp_path)
    assert [pair.source for pair in own] == ["open the door"]
    assert own.drops == {"monolingual, of a component in dev or test": 1}


def test_monolingual_lines_of_public_corpora(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        mtdata, "sources", lambda *_, source, **__: iter(["a  dog", f"in {source}", "A tree!", "R &amp; D"])
    )
    own = lines("corpora/multi30k-captions.yaml", tmp_path)
    assert [pair.source for pair in own] == ["a dog", "in en", "R &amp; D"]
    assert own.drops == {"monolingual, seen in dev or test": 1}
    tidied = lines("corpora/multi30k-captions.yaml", tmp_path)
    tidied.data = tidied.data.model_copy(update={"tidy": True})
    assert [pair.source for pair in tidied] == ["a dog", "in en", "R & D"]


def test_monolingual_recipe_of_no_lines_changes_nothing(tmp_path: Path) -> None:
    recipe = tmp_path / "none.yaml"
    recipe.write_text("kind: none\n")
    own, about = lines(recipe, tmp_path), {"pairs": {"train": 2}, "dropped": {"a cause": 1}}
    assert list(own) == []
    assert own.add_counts(about) == about


def test_text_without_any_training_line_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="has no line that dev and test lack; add some"):
        list(lines(write(tmp_path, "a tree\n"), tmp_path, train=[]))
    with pytest.raises(InputError, match=r"^data\.monolingual: .* does not exist; name a file of source lines"):
        list(lines(tmp_path / "absent", tmp_path))


def test_memory_does_not_grow_with_the_monolingual_lines(tmp_path: Path) -> None:
    peaks = []
    for count in (5_000, 50_000):
        own = lines(write(tmp_path, "".join(f"the line with number {n}\n" for n in range(count))), tmp_path)
        tracemalloc.start()
        assert sum(1 for _ in own) == count
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.2 * peaks[0] + 1e5
