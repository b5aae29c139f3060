"""The parts of a corpus in a folder: well-known names are read, others that look like a part are named."""

from pathlib import Path

import pytest

from seqkd.corpora import folder
from seqkd.corpora.folder import Found
from seqkd.utils.errors import InputError


def _find(where: Path, *names: str, source: str = "en", target: str = "de") -> Found:
    for name in names:
        (where / name).touch()
    return folder.find(where, source=source, target=target)


def _parts(found: Found) -> dict[str, list[str]]:
    return {part: [path.name for path in paths] for part, paths in found.parts.items()}


def _refusal(where: Path, *names: str) -> str:
    with pytest.raises(InputError) as error:
        _find(where, *names)
    assert len(str(error.value)) < 500
    return str(error.value).removeprefix(f"{where}")


@pytest.mark.parametrize(
    "form",
    ["{}.{}", "{}.{}.gz", "{}.{}.txt", "{}.{}.txt.xz", "{}.{}.BZ2", "{}.{}.zst", "{}.de-en.{}", "{}.en-de.{}.gz"],
)
@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("train", "train"), ("training", "train"), ("Train", "train"), ("TRAIN", "train"),
        ("dev", "dev"), ("Dev", "dev"), ("valid", "dev"), ("val", "dev"), ("validation", "dev"), ("development", "dev"),
        ("test", "test"), ("TEST", "test"),
    ],
)  # fmt: skip
def test_part_is_found_under_its_well_known_names(tmp_path: Path, name: str, part: str, form: str) -> None:
    files = [form.format(name, language) for language in ("en", "de")]
    train = [] if part == "train" else ["train.en", "train.de"]
    found = _find(tmp_path, *files, *train)
    assert _parts(found)[part] == files
    assert not found.unread


@pytest.mark.parametrize(
    ("target", "suffix"), [("de", "DE"), ("pt-BR", "pt_br"), ("sr@latin", "sr@latin"), ("a.b", "a.b")]
)
def test_language_in_a_name_may_be_spelled_in_its_other_way(tmp_path: Path, target: str, suffix: str) -> None:
    found = _find(tmp_path, "train.en", f"train.{suffix}.gz", target=target)
    assert _parts(found) == {"train": ["train.en", f"train.{suffix}.gz"]}


def test_file_that_looks_like_a_part_and_is_not_read_is_named(tmp_path: Path) -> None:
    unread = [
        "dev.fr", "dev2010.de", "heldout.de", "newstest2013.de", "newstest2013.en", "src-val.txt", "test.tsv",
        "test_2016_flickr.de", "train.bpe.de", "train.tok.de", "tst2014.de-en.de",
    ]  # fmt: skip
    found = _find(tmp_path, "train.en", "train.de", *unread, "README", "latest.de", "training_log", ".dev.de.swp")
    assert _parts(found) == {"train": ["train.en", "train.de"]}
    assert found.unread == sorted([*unread, "training_log"])


def test_other_languages_of_a_part_that_is_read_are_not_named(tmp_path: Path) -> None:
    found = _find(tmp_path, "train.en", "train.de", "train.fr.gz", "val.en", "val.de", "val.cs", "test.fr")
    assert found.unread == ["test.fr"]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["train.en", "train.de", "train.de.gz"], " has train.de, train.de.gz for train; keep one of them."),
        (["train.en", "train.de", "Train.en"], " has Train.en, train.en for train; keep one of them."),
        (
            ["train.en", "train.de", "dev.en", "dev.de", "valid.en", "valid.de"],
            " has dev.en, valid.en for dev; keep one of them.",
        ),
        (
            ["train.en", "train.de", "train.de-en.en", "train.de-en.de"],
            " has train.de-en.en, train.en for train; keep one of them.",
        ),
    ],
)
def test_part_with_two_candidates_is_refused_by_their_names(tmp_path: Path, names: list[str], message: str) -> None:
    assert _refusal(tmp_path, *names) == message


def test_part_whose_sides_have_two_names_is_refused(tmp_path: Path) -> None:
    said = _refusal(tmp_path, "train.en", "train.de", "dev.en", "valid.de")
    assert said == ": dev.en and valid.de have two names for dev; give both the same."


def test_part_with_one_side_is_refused_with_the_names_there_are(tmp_path: Path) -> None:
    said = _refusal(tmp_path, "train.en", "train.de", "valid.en")
    assert said == (
        " has valid.en but no dev.de; it has train.de, train.en, valid.en; "
        "add it, or correct data.source and data.target."
    )


@pytest.mark.parametrize(
    ("names", "listed"),
    [
        ([], "no files"),
        (["Books.de-en.de", "Books.de-en.en", "LICENSE"], "Books.de-en.de, Books.de-en.en, LICENSE"),
        (["train.tok.de", "train.tok.en"], "train.tok.de, train.tok.en"),
        (["train.fr"], "train.fr"),
        ([f"{number}.de" for number in range(9)], "0.de, 1.de, 2.de, 3.de, 4.de, 5.de and 3 more"),
        (["x" * 200], "x" * 40 + "..."),
    ],
)
def test_folder_without_train_is_refused_with_the_names_there_are(
    tmp_path: Path, names: list[str], listed: str
) -> None:
    assert _refusal(tmp_path, *names) == (
        f" has no train.en and train.de; it has {listed}; give the two files of the training text these names, "
        "or correct data.source and data.target."
    )


def test_folder_with_a_link_to_nothing_is_refused_wherever_the_link_stands(tmp_path: Path) -> None:
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "notes").symlink_to("nowhere")
    said = _refusal(tmp_path, "train.en", "train.de")
    assert said == "/more/notes: a link to what is not there; correct the link or remove it."
