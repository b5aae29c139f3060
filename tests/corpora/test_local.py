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
    parts, drops, origin, _ = _prepare(tmp_path)
    assert [(line.source, line.target) for line in parts.train] == list(zip(SOURCE, TARGET, strict=True))
    assert [line.target for line in parts.test] == ["eine Katze", "eine Katze"]
    assert not drops
    assert (origin["dev"], origin["test"]) == ("dev.en and dev.de", "test.en and test.de")


def test_folder_may_have_compressed_files_windows_line_ends_and_a_byte_order_mark(tmp_path: Path) -> None:
    (tmp_path / "train.en.gz").write_bytes(gzip.compress("\ufeff".encode() + "\r\n".join(SOURCE).encode()))
    _write(tmp_path, train_de=TARGET, dev_en=["a dog"], dev_de=["ein Hund"], test_en=["a cat"], test_de=["eine Katze"])
    assert [line.source for line in _prepare(tmp_path).parts.train] == SOURCE


def test_folder_without_dev_and_test_is_split_by_seed(tmp_path: Path) -> None:
    _write(tmp_path, train_en=SOURCE, train_de=TARGET)
    parts, _, origin, _ = _prepare(tmp_path)
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
    parts, drops, _, _ = _prepare(tmp_path)
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
    _refused(tmp_path, f"{tmp_path}/train.de, line 2: not UTF-8; convert the file (iconv -f ENCODING -t UTF-8).")


def test_folder_with_broken_gzip_or_an_empty_file_is_refused(tmp_path: Path) -> None:
    _write(tmp_path, train_de=TARGET)
    (tmp_path / "train.en.gz").write_bytes(gzip.compress("".join(f"{line}\n" for line in SOURCE).encode())[:-20])
    with pytest.raises(
        InputError, match=r"train\.en\.gz, after line \d+: broken gzip, cut short; compress the file anew\."
    ):
        _prepare(tmp_path)
    (tmp_path / "train.en.gz").unlink()
    (tmp_path / "train.en").touch()
    _refused(tmp_path, f"{tmp_path}/train.en: the file is empty; give it text or remove it.")


def test_folder_without_a_language_is_refused_with_those_it_has(tmp_path: Path) -> None:
    _write(tmp_path, train_en=SOURCE, train_fr=TARGET)
    _refused(
        tmp_path,
        f"{tmp_path} has train.en but no train.de; it has train.en, train.fr; "
        "add it, or correct data.source and data.target.",
    )


def test_folder_with_a_plain_and_a_packed_file_is_refused(tmp_path: Path) -> None:
    _write(tmp_path, train_en=SOURCE, train_de=TARGET, train_de_gz=TARGET)
    _refused(tmp_path, f"{tmp_path} has train.de, train.de.gz for train; keep one of them.")


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
    _refused(tmp_path, f"{tmp_path}/train.de: a link to what is not there; correct the link or remove it.")


def test_folder_names_the_files_of_its_dev_set_and_what_it_does_not_read(tmp_path: Path) -> None:
    _write(tmp_path, train_en=SOURCE, train_de=TARGET, Valid_en=["a dog"], Valid_de=["ein Hund"])
    _write(tmp_path, newstest2013_en=["a cat"], newstest2013_de=["eine Katze"])
    cleaned = _prepare(tmp_path)
    assert cleaned.origin["dev"] == "Valid.en and Valid.de"
    assert cleaned.origin["test"] == "split off from train by seed"
    assert [line.target for line in cleaned.parts.dev] == ["ein Hund"]
    assert cleaned.notes == (
        f"{tmp_path}: not read: newstest2013.de, newstest2013.en; name what you need like train.en or dev.de.",
    )


def test_folder_with_a_tokenizers_marks_is_told_how_many_and_tidied_if_asked_to(tmp_path: Path) -> None:
    marked = [
        "a well @-@ known &apos;s &quot; dog &quot;",
        "p &#124; q &amp; r",
        "lo@@ w@@ er",
        "10 @,@ 000 @.@ 5",
        "mail @ me",
    ]
    tidied = ['a well-known \'s " dog "', "p | q & r", "lower", "10,000.5", "mail @ me"]
    _write(tmp_path, train_en=[*SOURCE, *marked], train_de=[*TARGET, *"abcde"])
    cleaned = _prepare(tmp_path)
    assert set(marked) <= {line.source for part in cleaned.parts for line in part}
    assert cleaned.notes == (
        "4 pairs have entities or a tokenizer's marks, such as &quot; or @-@; "
        "data.tidy: true in params.yaml resolves them.",
    )
    again = local.prepare(tmp_path, source="en", target="de", seed=5, tidy=True)
    assert set(tidied) <= {line.source for part in again.parts for line in part}
    assert not again.notes


def _prepare_file(path: Path, text: str, *, tidy: bool = False) -> Cleaned:
    path.write_text(text, encoding="utf-8")
    return local.prepare_file(path, source="en", target="de", seed=5, tidy=tidy)


def _rows(*first: str, last: str = "") -> str:
    return "".join(f"{row}\n" for row in [*first, *map("\t".join, zip(SOURCE, TARGET, strict=True))]) + last


def _refused_file(path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError) as error:
        _prepare_file(path, text)
    assert str(error.value) == f"{path}{message}"


def _pairs(cleaned: Cleaned) -> set[tuple[str, str]]:
    return {(line.source, line.target) for part in cleaned.parts for line in part}


def test_tab_separated_file_is_split_by_seed(tmp_path: Path) -> None:
    cleaned = _prepare_file(tmp_path / "pairs.tsv", _rows())
    assert [len(part) for part in cleaned.parts] == [32, 4, 4]
    assert _pairs(cleaned) == set(zip(SOURCE, TARGET, strict=True))
    assert not cleaned.notes


def test_tab_separated_file_counts_blank_lines_as_a_folder_does(tmp_path: Path) -> None:
    for last in ("\n", "\n \n\u200b\n", "\t\n", "\r\n"):
        cleaned = _prepare_file(tmp_path / "pairs.tsv", _rows(last=last))
        assert cleaned.drops == {"train, an empty side": last.count("\n")}
        assert len(_pairs(cleaned)) == 40


@pytest.mark.parametrize(
    "header", ["source\ttarget", "en\tde", "EN\tDE", "English\tGerman", "src_text\ttgt_text", "Sentence 1\tSentence 2"]
)
def test_tab_separated_file_loses_its_header_which_is_told(tmp_path: Path, header: str) -> None:
    path = tmp_path / "pairs.tsv"
    cleaned = _prepare_file(path, _rows(header))
    assert _pairs(cleaned) == set(zip(SOURCE, TARGET, strict=True))
    assert cleaned.drops == {"a header": 1}
    told = f"{path}, line 1: {header.replace(chr(9), ' and ')} are taken for a header, not for a pair."
    assert cleaned.notes == (told,)


@pytest.mark.parametrize("first", ["the source\tdie Quelle", "text\tText", "a dog\tein Hund", "German\tDeutsch"])
def test_tab_separated_file_keeps_a_first_pair_that_is_no_header(tmp_path: Path, first: str) -> None:
    cleaned = _prepare_file(tmp_path / "pairs.tsv", _rows(first))
    assert tuple(first.split("\t")) in _pairs(cleaned)
    assert not cleaned.notes


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("two zwei", "1 column; write 'source, tab, target' there."),
        ("two\tzwei\t0.87", "3 columns; write 'source, tab, target' there, such as with cut -f 1,2 for all lines."),
        ("1.3e-2\ttwo\tzwei", "3 columns; write 'source, tab, target' there, such as with cut -f 2,3 for all lines."),
        ("1\ttwo\t7\tzwei", "4 columns; write 'source, tab, target' there, such as with cut -f 2,4 for all lines."),
        ("a\tb\tCC-BY", "3 columns; write 'source, tab, target' there, such as with cut -f 1,2 for all lines."),
    ],
)
def test_tab_separated_file_with_other_columns_is_refused_with_the_mend(tmp_path: Path, row: str, message: str) -> None:
    _refused_file(tmp_path / "pairs.tsv", f"one\teins\n{row}\n", f", line 2: {message}")


@pytest.mark.parametrize(
    ("name", "text", "kind"),
    [
        ("pairs.csv", "source,target\none,eins\n", "CSV"),
        ("PAIRS.CSV", '"one","eins"\n', "CSV"),
        ("pairs.jsonl", '{"en": "one", "de": "eins"}\n', "JSON"),
        ("de.po", 'msgid ""\nmsgstr ""\n', "a gettext catalogue"),
    ],
)
def test_file_of_pairs_in_another_format_is_refused_by_its_name(
    tmp_path: Path, name: str, text: str, kind: str
) -> None:
    said = f": is {kind}, which is not read; write each pair as 'source, tab, target'."
    _refused_file(tmp_path / name, text, said)


def test_file_of_xliff_is_refused_by_its_name(tmp_path: Path) -> None:
    text = "<?xml version='1.0' encoding='UTF-8'?>\n<xliff version='1.2'><file/></xliff>\n"
    said = ": is XLIFF, which is not read; convert it to TMX or to lines of 'source, tab, target'."
    _refused_file(tmp_path / "pairs.xlf", text, said)


@pytest.mark.parametrize("name", ["memory.tmx", "MEMORY.TMX", "memory.xml", "memory"])
def test_file_of_tmx_is_read_and_lacking_units_are_counted(tmp_path: Path, name: str) -> None:
    def unit(*texts: tuple[str, str]) -> str:
        return f"<tu>{''.join(f'<tuv xml:lang={code!r}><seg>{text}</seg></tuv>' for code, text in texts)}</tu>"

    units = [unit(("en-GB", source), ("DE", target)) for source, target in zip(SOURCE, TARGET, strict=True)]
    body = "".join([*units, unit(("de", "nur deutsch")), unit(("en-GB", ""), ("de", "leer"))])
    cleaned = _prepare_file(tmp_path / name, f"<tmx version='1.4'><header/><body>{body}</body></tmx>")
    assert _pairs(cleaned) == set(zip(SOURCE, TARGET, strict=True))
    assert cleaned.drops == {"units without one of the languages": 1, "train, an empty side": 1}
    assert cleaned.origin["dev"] == "split off from train by seed"


def test_prepare_file_counts_the_texts_whose_characters_the_normal_form_changes(tmp_path: Path) -> None:
    lines = ["open\t\u00d6ffnen", "the  door\u3000now\tdie Tür\u00a0jetzt", "a caf\u0065\u0301\tein Caf\u00e9"]
    lines += [f"line {number}\tZeile {number}" for number in range(20)] + ["it\x07 rings\tes l\u0061\u0308utet"]
    (tmp_path / "pairs.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    cleaned = local.prepare_file(tmp_path / "pairs.tsv", source="en", target="de", seed=5)
    assert cleaned.origin["texts whose characters changed"] == 3
