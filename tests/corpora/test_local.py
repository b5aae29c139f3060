import gzip
import re
from pathlib import Path

import pytest

from seqkd.corpora import local
from seqkd.corpora.cleaning import Cleaned
from seqkd.utils.errors import InputError

SOURCE = [f"the house number {number}" for number in range(40)]
TARGET = [f"das Haus Nummer {number}" for number in range(40)]


def _write(where: Path, **files: list[str]) -> Path:
    """Files by name, _ for the dot."""
    for name, lines in files.items():
        (where / name.replace("_", ".")).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return where


def _prepare(where: Path) -> Cleaned:
    return local.prepare(where, source="en", target="de", seed=5)


def _refused(where: Path, message: str) -> None:
    with pytest.raises(InputError, match=f"^{re.escape(message)}$"):
        _prepare(where)


def test_folder_with_a_given_split_keeps_it_line_by_line(tmp_path: Path) -> None:
    _write(tmp_path, train_en=SOURCE, train_de=TARGET, dev_en=["a dog"], dev_de=["ein Hund"])
    _write(tmp_path, test_en=["a cat", "a cat"], test_de=["eine Katze", "eine Katze"])
    parts, drops, origin = _prepare(tmp_path)
    assert [(line.source, line.target) for line in parts.train] == list(zip(SOURCE, TARGET, strict=True))
    assert [line.target for line in parts.test] == ["eine Katze", "eine Katze"]
    assert not drops
    assert (origin["dev"], origin["test"]) == ("given", "given")


def test_folder_may_have_compressed_files_windows_line_ends_and_a_byte_order_mark(tmp_path: Path) -> None:
    (tmp_path / "train.en.gz").write_bytes(gzip.compress("\ufeff".encode() + "\r\n".join(SOURCE).encode()))
    _write(tmp_path, train_de=TARGET, dev_en=["a dog"], dev_de=["ein Hund"], test_en=["a cat"], test_de=["eine Katze"])
    assert [line.source for line in _prepare(tmp_path).parts.train] == SOURCE


def test_folder_without_dev_and_test_is_split_by_seed(tmp_path: Path) -> None:
    _write(tmp_path, train_en=SOURCE, train_de=TARGET)
    parts, _, origin = _prepare(tmp_path)
    assert [len(part) for part in parts] == [32, 4, 4]
    assert {line.source for part in parts for line in part} == set(SOURCE)
    assert origin["dev"] == origin["test"] == "split off from train by seed"
    assert _prepare(tmp_path).parts == parts
    assert local.prepare(tmp_path, source="en", target="de", seed=6).parts != parts


def test_source_with_several_translations_is_in_one_part_only(tmp_path: Path) -> None:
    _write(tmp_path, train_en=[*SOURCE, *SOURCE], train_de=[*TARGET, *(f"{text} dort" for text in TARGET)])
    sources = [{line.source for line in part} for part in _prepare(tmp_path).parts]
    assert sum(map(len, sources)) == len(set(SOURCE))


def test_folder_loses_empty_sides_repeats_and_overlap_which_are_counted(tmp_path: Path) -> None:
    _write(tmp_path, train_en=[*SOURCE, SOURCE[0], "no target"], train_de=[*TARGET, TARGET[0], ""])
    _write(tmp_path, dev_en=["a dog"], dev_de=["ein Hund"], test_en=[SOURCE[3].upper()], test_de=["eine Katze"])
    parts, drops, _ = _prepare(tmp_path)
    assert [len(part) for part in parts] == [39, 1, 1]
    assert drops == {"train, an empty side": 1, "train, repeated": 1, "train, seen in dev or test": 1}


def test_folder_with_unequal_line_counts_is_refused_by_file_and_line(tmp_path: Path) -> None:
    _write(tmp_path, train_en=SOURCE, train_de=TARGET[:38])
    _refused(
        tmp_path,
        f"{tmp_path}/train.en, line 39: no such line in {tmp_path}/train.de, which has 38 lines, not 40; "
        "line n of one must translate line n of the other.",
    )


def test_folder_with_bad_utf8_is_refused_by_file_and_line(tmp_path: Path) -> None:
    _write(tmp_path, train_en=["one", "two", "three"])
    (tmp_path / "train.de").write_bytes(b"eins\nzw\xffei\ndrei\n")
    _refused(tmp_path, f"{tmp_path}/train.de, line 2: not UTF-8; convert the file.")


def test_folder_with_broken_gzip_or_an_empty_file_is_refused(tmp_path: Path) -> None:
    _write(tmp_path, train_de=TARGET)
    (tmp_path / "train.en.gz").write_bytes(gzip.compress("".join(f"{line}\n" for line in SOURCE).encode())[:-20])
    with pytest.raises(InputError, match=r"train\.en\.gz, after line \d+: broken gzip; compress the file anew\."):
        _prepare(tmp_path)
    (tmp_path / "train.en.gz").unlink()
    (tmp_path / "train.en").touch()
    _refused(tmp_path, f"{tmp_path}/train.en: the file is empty; give it text or remove it.")


def test_folder_without_a_language_is_refused_with_those_it_has(tmp_path: Path) -> None:
    _write(tmp_path, train_en=SOURCE, train_fr=TARGET)
    _refused(
        tmp_path,
        f"{tmp_path} has no train.de or train.de.gz; languages of train there: en, fr "
        "(data.source and data.target choose).",
    )


def test_folder_with_a_plain_and_a_packed_file_is_refused(tmp_path: Path) -> None:
    _write(tmp_path, train_en=SOURCE, train_de=TARGET, train_de_gz=TARGET)
    _refused(tmp_path, f"{tmp_path} has both train.de and train.de.gz; remove one of them.")


@pytest.mark.parametrize("blank", [" ", "\u200b", "?!"])
@pytest.mark.parametrize("part", ["dev", "test"])
def test_folder_with_a_part_without_a_word_is_refused(tmp_path: Path, part: str, blank: str) -> None:
    _write(tmp_path, train_en=SOURCE, train_de=TARGET, dev_en=["a dog"], dev_de=["ein Hund"])
    _write(tmp_path, test_en=["a cat"], test_de=["eine Katze"])
    _write(tmp_path, **{f"{part}_de": [blank]})
    _refused(tmp_path, f"{tmp_path}: no pair of {part} has words on both sides; give it sentences.")


def test_folder_with_a_link_to_nothing_is_refused_by_name(tmp_path: Path) -> None:
    _write(tmp_path, train_en=SOURCE)
    (tmp_path / "train.de").symlink_to("nowhere")
    _refused(tmp_path, f"{tmp_path}/train.de: a link to a file that is not there; correct the link or remove it.")


def test_tab_separated_file_is_split_by_seed(tmp_path: Path) -> None:
    path = tmp_path / "pairs.tsv"
    path.write_text("".join(f"{source}\t{target}\n" for source, target in zip(SOURCE, TARGET, strict=True)))
    parts = local.prepare_file(path, seed=5).parts
    assert [len(part) for part in parts] == [32, 4, 4]
    assert {(line.source, line.target) for part in parts for line in part} == set(zip(SOURCE, TARGET, strict=True))


def test_tab_separated_file_with_a_line_without_two_columns_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "pairs.tsv"
    path.write_text("one\teins\ntwo zwei\n")
    with pytest.raises(InputError) as error:
        local.prepare_file(path, seed=5)
    assert str(error.value) == f"{path}, line 2: 1 columns; write 'source, tab, target' there."
