import gzip
import hashlib
import pickle
import tarfile
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path

import mtdata
import pytest
import yaml
from mtdata.cache import Cache
from source_tree import ROOT

from seqkd.config import records
from seqkd.corpora import mtdata as mtdata_corpus
from seqkd.corpora.mtdata import MtdataRecipe
from seqkd.utils.errors import InputError

RECIPES = [path for path in sorted((ROOT / "corpora").glob("*.yaml")) if "kind: mtdata" in path.read_text("utf-8")]


@pytest.fixture(scope="module")
def downloads(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a pickle in the place of the library's index; it must never be loaded."""
    folder = tmp_path_factory.mktemp("downloads")
    path = folder / "mtdata" / mtdata.cached_index_file.name
    path.parent.mkdir()
    path.write_bytes(b"cos\nmkdir\n(V" + bytes(folder / "marker") + b"\ntR.")
    return folder


def _downloaded(
    name: str | None, downloads: Path, *contents: bytes, addresses: Mapping[str, list[str]] | None = None
) -> None:
    """Write a corpus's files where the library leaves its downloads."""
    assert name
    entry = mtdata_corpus.find_entry(name, addresses)
    cache = Cache(downloads / "mtdata")
    urls, file_name = ([entry.url], entry.filename) if isinstance(entry.url, str) else (entry.url, None)
    for url, content in zip(urls, contents, strict=True):
        path = cache.get_local_path(url, filename=file_name, fix_missing=False)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        cache.get_flag_file(path).touch()


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _recipe(name: str) -> MtdataRecipe:
    return records.load(ROOT / "corpora" / name, MtdataRecipe)


def test_find_entry_loads_no_pickled_index(downloads: Path) -> None:
    assert mtdata_corpus.find_entry("StanfordNLP-newstest2014-1-eng-deu").url
    assert not (downloads / "marker").exists()
    assert mtdata.cached_index_file.parent != downloads / "mtdata"
    pickled = next((downloads / "mtdata").glob("*.pkl"))
    pickle.loads(pickled.read_bytes())
    assert (downloads / "marker").exists()


def test_fetch_refuses_a_file_with_another_checksum_than_the_pinned_one(downloads: Path) -> None:
    recipe = _recipe("wmt14-en-de.yaml")
    _downloaded(recipe.train[0], downloads, b"one\n", b"eins\n")
    entry = mtdata_corpus.find_entry(recipe.train[0])
    right = {entry.url[0]: _sha256(b"one\n")}
    assert mtdata_corpus.fetch(entry, downloads, right)[1]["sha256"] == {entry.url[1]: _sha256(b"eins\n"), **right}
    wrong = {entry.url[1]: "0" * 64}
    with pytest.raises(InputError, match=r"sha256 is \S+, but the recipe pins 0{64}; delete it"):
        mtdata_corpus.fetch(entry, downloads, wrong)


def test_recipes_of_public_corpora_exist() -> None:
    assert {"wmt14-en-de.yaml", "ted-th-en.yaml", "multi30k.yaml", "tatoeba.yaml"} <= {path.name for path in RECIPES}


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_recipes_name_corpora_of_the_librarys_own_index_or_their_addresses(path: Path, downloads: Path) -> None:
    recipe = records.load(path, MtdataRecipe)
    for name in filter(None, (*recipe.train, recipe.dev, recipe.test)):
        entry = mtdata_corpus.find_entry(name, recipe.addresses)
        assert str(entry.did) == name
        assert set(recipe.addresses.get(name, [])) <= set(recipe.sha256)


def test_overlays_of_public_corpora_name_their_languages(downloads: Path) -> None:
    for path in RECIPES:
        data = yaml.safe_load((ROOT / "configs" / path.name).read_text("utf-8"))["data"]
        assert f"corpora/{path.name}" in (data["corpus"], data["monolingual"])
        recipe = records.load(path, MtdataRecipe)
        entry = mtdata_corpus.find_entry(recipe.train[0], recipe.addresses)
        assert not list(mtdata_corpus.read(entry, [_empty(downloads)], source=data["source"], target=data["target"]))


def _empty(downloads: Path) -> Path:
    (downloads / "empty.tsv").touch()
    return downloads / "empty.tsv"


def test_prepare_reads_two_plain_files_and_undoes_the_tokenisers_marks(downloads: Path) -> None:
    recipe = _recipe("wmt14-en-de.yaml")
    _downloaded(
        recipe.train[0], downloads, b"a well ##AT##-##AT## known &quot; R &amp; D &quot;\nyes\n", b"ein A\nja\n"
    )
    _downloaded(recipe.dev, downloads, b"one\ntwo\n", b"eins\nzwei\n")
    _downloaded(recipe.test, downloads, b"Yes !\n", b"Doch !\n")
    parts, drops, origin, _ = mtdata_corpus.prepare(recipe, source="en", target="de", seed=7, downloads=downloads)
    assert [(line.source, line.target) for line in parts.train] == [('a well-known " R & D "', "ein A")]
    assert [(line.source, line.target) for line in parts.dev] == [("one", "eins"), ("two", "zwei")]
    assert [(line.source, line.target) for line in parts.test] == [("Yes !", "Doch !")]
    assert drops == {"train, seen in dev or test": 1}
    assert origin["test"] == [
        {
            "corpus": "StanfordNLP-newstest2014-1-eng-deu",
            "addresses": [
                "https://nlp.stanford.edu/projects/nmt/data/wmt14.en-de/newstest2014.en",
                "https://nlp.stanford.edu/projects/nmt/data/wmt14.en-de/newstest2014.de",
            ],
            "sha256": {
                "https://nlp.stanford.edu/projects/nmt/data/wmt14.en-de/newstest2014.en": _sha256(b"Yes !\n"),
                "https://nlp.stanford.edu/projects/nmt/data/wmt14.en-de/newstest2014.de": _sha256(b"Doch !\n"),
            },
            "licence": "not stated by mtdata; see the corpus's own page",
        }
    ]


def _talks(*rows: tuple[str, str]) -> bytes:
    """Rows of a table of 60 languages, English in column 1 and Thai in column 29."""
    lines = []
    for english, thai in rows:
        cells = ["__NULL__"] * 60
        cells[0], cells[1], cells[29] = "talk", english, thai
        lines.append("\t".join(cells) + "\n")
    return "".join(lines).encode()


def test_fetch_refuses_an_archive_where_python_would_unpack_it_to_any_place(
    downloads: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe, packed = _recipe("ted-th-en.yaml"), BytesIO()
    tarfile.open(fileobj=packed, mode="w:gz").close()
    _downloaded(recipe.train[0], downloads, packed.getvalue())
    monkeypatch.delattr(tarfile, "data_filter", raising=False)
    with pytest.raises(InputError, match=r"use 3\.11\.4 or newer"):
        mtdata_corpus.prepare(recipe, source="th", target="en", seed=7, downloads=downloads)


@pytest.mark.skipif(not hasattr(tarfile, "data_filter"), reason="Python before 3.11.4")
def test_prepare_swaps_an_archives_columns_and_leaves_out_missing_translations(downloads: Path) -> None:
    recipe = _recipe("ted-th-en.yaml")
    packed = BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for part, rows in {
            "train": [("good day", "สวัสดี"), ("lost", "__NULL__"), ("it &apos;s me", "ผม")],
            "dev": [("one", "หนึ่ง")],
            "test": [("two", "สอง")],
        }.items():
            member = tarfile.TarInfo(f"all_talks_{part}.tsv")
            member.size = len(_talks(*rows))
            archive.addfile(member, BytesIO(_talks(*rows)))
    _downloaded(recipe.train[0], downloads, packed.getvalue())
    parts, drops, _, _ = mtdata_corpus.prepare(recipe, source="th", target="en", seed=7, downloads=downloads)
    pairs = [[(line.source, line.target) for line in part] for part in parts]
    assert pairs == [[("สวัสดี", "good day"), ("ผม", "it 's me")], [("หนึ่ง", "one")], [("สอง", "two")]]
    assert not drops


def test_read_refuses_other_languages_than_the_corpuss(downloads: Path) -> None:
    entry = mtdata_corpus.find_entry("StanfordNLP-newstest2014-1-eng-deu")
    with pytest.raises(InputError) as error:
        list(mtdata_corpus.read(entry, [], source="en", target="fr"))
    assert str(error.value) == (
        "StanfordNLP-newstest2014-1-eng-deu is eng and deu, not eng and fra; set data.source and data.target."
    )


@pytest.mark.parametrize("name", ["StanfordNLP-newstest2041-1-eng-deu", "StanfordNLP-newstest2014"])
def test_find_entry_refuses_an_unknown_corpus_with_a_near_name(name: str, downloads: Path) -> None:
    with pytest.raises(InputError, match=rf"^mtdata knows no corpus {name}; is it StanfordNLP-newstest20\S+\?$"):
        mtdata_corpus.find_entry(name)


@pytest.mark.parametrize("page", [b"<!DOCTYPE html>\n<html>", b"<html><head><title>Moved</title>"])
def test_fetch_refuses_a_page_of_html_in_place_of_a_download(downloads: Path, page: bytes) -> None:
    recipe = _recipe("wmt14-en-de.yaml")
    _downloaded(recipe.train[0], downloads, b"one\n", page)
    with pytest.raises(InputError, match=r": a page of HTML in place of the download; delete it and run again\.$"):
        mtdata_corpus.fetch(mtdata_corpus.find_entry(recipe.train[0]), downloads, {})


def test_read_refuses_files_that_the_library_cannot_read_in_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "one.en").write_bytes(b"one\n")
    (tmp_path / "one.de").write_bytes(b"eins\nzwei\n")
    entry = mtdata_corpus.find_entry("StanfordNLP-newstest2014-1-eng-deu")
    with pytest.raises(InputError) as error:
        list(mtdata_corpus.read(entry, [tmp_path / "one.en", tmp_path / "one.de"], source="en", target="de"))
    assert str(error.value).startswith("StanfordNLP-newstest2014-1-eng-deu: its files cannot be read (")
    assert str(error.value).endswith("); delete them and run again.")


def test_read_refuses_a_language_that_the_library_does_not_know(downloads: Path) -> None:
    entry = mtdata_corpus.find_entry("StanfordNLP-newstest2014-1-eng-deu")
    with pytest.raises(
        InputError, match=r"^mtdata knows no language en or sr@latin; write it like de, pt-BR or sr-Lat"
    ):
        list(mtdata_corpus.read(entry, [], source="en", target="sr@latin"))


def test_sources_are_the_lines_of_one_language_of_corpora_of_any_other(downloads: Path) -> None:
    recipe = MtdataRecipe(kind="mtdata", train=["A-one-1-eng-deu", "A-two-1-fra-eng"], replace={"##": "-"})
    recipe = recipe.model_copy(update={"addresses": {n: [f"https://a.b/{n}{m}" for m in "12"] for n in recipe.train}})
    for name, contents in zip(recipe.train, [(b"a##b\nyes\n", b"x\ny\n"), (b"oui\n", b"yes  sir\n")], strict=True):
        _downloaded(name, downloads, *contents, addresses=recipe.addresses)
    assert list(mtdata_corpus.sources(recipe, source="en", downloads=downloads)) == ["a-b", "yes", "yes  sir"]
    with pytest.raises(InputError, match=r"A-one-1-eng-deu is eng and deu, not fra; set data\.source and data\.target"):
        list(mtdata_corpus.sources(recipe, source="fr", downloads=downloads))


def test_prepare_tidies_if_asked_to_and_else_tells_how_many_pairs_have_marks(downloads: Path) -> None:
    recipe = _recipe("wmt14-en-de.yaml").model_copy(update={"replace": {}})
    _downloaded(recipe.train[0], downloads, b"a well ##AT##-##AT## known &quot; dog\nyes\n", b"ein A\nja\n")
    for name in (recipe.dev, recipe.test):
        _downloaded(name, downloads, b"one\n", b"eins\n")
    told = mtdata_corpus.prepare(recipe, source="en", target="de", seed=7, downloads=downloads)
    assert [note.split(" have ")[0] for note in told.notes] == ["1 pairs"]
    tidied = mtdata_corpus.prepare(recipe, source="en", target="de", seed=7, downloads=downloads, tidy=True)
    assert [line.source for line in tidied.parts.train] == ['a well-known " dog', "yes"]
    assert not tidied.notes


def test_prepare_reads_packed_files_of_given_addresses(downloads: Path) -> None:
    recipe = _recipe("multi30k.yaml").model_copy(update={"sha256": {}})
    for name, sides in zip(
        (*recipe.train, recipe.dev, recipe.test),
        [(b"a dog\n", b"ein Hund\n"), (b"a cat\n", b"eine Katze\n"), (b"a man\n", b"ein Mann\n")],
        strict=True,
    ):
        _downloaded(name, downloads, *map(gzip.compress, sides), addresses=recipe.addresses)
    parts = mtdata_corpus.prepare(recipe, source="de", target="en", seed=7, downloads=downloads).parts
    assert [(line.source, line.target) for part in parts for line in part] == [
        ("ein Hund", "a dog"),
        ("eine Katze", "a cat"),
        ("ein Mann", "a man"),
    ]


def test_prepare_splits_off_by_seed_what_a_recipe_does_not_name(downloads: Path) -> None:
    recipe = MtdataRecipe(kind="mtdata", train=["StanfordNLP-wmt14_train-1-eng-deu"])
    sides = ("".join(f"{word} {number}\n" for number in range(40)).encode() for word in ("word", "Wort"))
    _downloaded(recipe.train[0], downloads, *sides)
    cleaned = mtdata_corpus.prepare(recipe, source="en", target="de", seed=7, downloads=downloads)
    assert [len(part) for part in cleaned.parts] == [32, 4, 4]
    assert cleaned.origin["dev"] == cleaned.origin["test"] == "split off from train by seed"
    assert cleaned == mtdata_corpus.prepare(recipe, source="en", target="de", seed=7, downloads=downloads)
    assert cleaned != mtdata_corpus.prepare(recipe, source="en", target="de", seed=8, downloads=downloads)
