import json
import shutil
from pathlib import Path

import pytest
from source_tree import ROOT, settings

from seqkd.config import records
from seqkd.config.records import Record
from seqkd.config.schema import DataSettings
from seqkd.corpora import mtdata, prepare, synthetic, wheels
from seqkd.corpora.prepare import Prepared
from seqkd.data import bitext
from seqkd.utils.errors import InputError
from stages import preprocess

WHEELS = """\
kind: wheels
packages: [{name: a, version: '1', files: "{language}.json"}]
cleaning:
  source_words: {least: 3, most: 40}
  target_words: {least: 1, most: 40}
  ratio: 2
  numbered: 3
dev: 1
test: 1
"""
SMALL = "kind: grammar\npairs: 30\ndev: 4\ntest: 5\n"
RECORDS: dict[str, type[Record]] = {
    "wheels": wheels.WheelsRecipe,
    "grammar": synthetic.SyntheticRecipe,
    "mtdata": mtdata.MtdataRecipe,
}


def _prepare(path: Path, *, source: str = "en", target: str = "de") -> Prepared:
    data = DataSettings(corpus=str(path), source=source, target=target, max_length=50, tidy=False)
    return prepare.prepare(data, seed=7, downloads=path.parent / "downloads")


def _refused(path: Path, *, source: str = "en", target: str = "de") -> str:
    with pytest.raises(InputError) as error:
        _prepare(path, source=source, target=target)
    return str(error.value)


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    """A file of 40 pairs, and one with an empty side."""
    path = tmp_path / "pairs.tsv"
    path.write_text("".join(f"word {number}\tWort {number}\n" for number in range(40)) + "empty\t\n")
    return path


def test_max_pairs_takes_a_sample_by_the_seed_of_data(pairs: Path) -> None:
    data = DataSettings(corpus=str(pairs), source="en", target="de", max_length=50, tidy=False, seed=3)
    whole = prepare.prepare(data, seed=7, downloads=pairs.parent)
    sampled = prepare.prepare(data.model_copy(update={"max_pairs": 10}), seed=8, downloads=pairs.parent)
    assert (sampled.dev, sampled.test) != (whole.dev, whole.test)  # the ids
    texts = [[(pair.source, pair.target) for pair in part] for part in (sampled.dev, sampled.test)]
    assert texts == [[(pair.source, pair.target) for pair in part] for part in (whole.dev, whole.test)]
    assert len(sampled.train) == 10
    order = [pair.source for pair in whole.train]
    places = [order.index(pair.source) for pair in sampled.train]
    assert places == sorted(places) != list(range(10))
    assert [pair.id for pair in sampled.train] == list(range(10))
    assert sampled.about["seed"] == 3
    assert sampled.about["dropped"] == {"train, an empty side": 1, "train, not in the sample": 22}


RECIPES = sorted(path for path in (ROOT / "corpora").glob("*.yaml") if path.stem != "none")  # of monolingual lines


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_recipes_of_the_project_are_valid_records_of_their_kind(path: Path) -> None:
    kind = records.load(path, prepare.RecipeKind).kind
    assert records.load(path, RECORDS[kind]).model_dump()["kind"] == kind


def test_prepare_numbers_the_pairs_through_train_dev_and_test(pairs: Path) -> None:
    parts = _prepare(pairs)
    assert [pair.id for part in parts[:3] for pair in part] == list(range(40))
    assert [len(part) for part in parts[:3]] == [32, 4, 4]


def test_prepare_reports_the_origin_and_every_drop(pairs: Path) -> None:
    about = _prepare(pairs).about
    assert about["pairs"] == {"train": 32, "dev": 4, "test": 4}
    assert about["dropped"] == {"train, an empty side": 1}
    assert (about["source"], about["target"], about["seed"]) == ("en", "de", 7)
    assert json.loads(json.dumps(about)) == about


def test_prepare_of_a_synthetic_recipe_makes_as_many_pairs_as_it_says(tmp_path: Path) -> None:
    for name in ("small.yaml", "small.yml"):
        path = tmp_path / name
        path.write_text(SMALL)
        assert [len(part) for part in _prepare(path)[:3]] == [30, 4, 5]


def test_prepare_reads_a_folder(tmp_path: Path) -> None:
    for part in ("train", "dev", "test"):
        (tmp_path / f"{part}.en").write_text(f"{part} house\n")
        (tmp_path / f"{part}.de").write_text(f"{part} Haus\n")
    assert [part[0].target for part in _prepare(tmp_path)[:3]] == ["train Haus", "dev Haus", "test Haus"]


def test_prepare_refuses_a_corpus_that_does_not_exist_with_the_recipes_there_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "corpora").mkdir()
    (tmp_path / "corpora" / "own.yaml").write_text(SMALL)
    monkeypatch.chdir(tmp_path)
    assert _refused(Path("corpora/onw.yaml")) == (
        "data.corpus: corpora/onw.yaml does not exist; name a folder, one file of pairs, or one of corpora/own.yaml."
    )
    (tmp_path / "corpora" / "own.yaml").unlink()
    assert _refused(Path("own")) == (
        "data.corpus: own does not exist; name a folder, one file of pairs, or a recipe (*.yaml)."
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("kind: [", ", line 1: not valid YAML; correct the syntax there."),
        ("pairs: 3\n", ": kind is missing; add it."),
        ("kind: web\n", ": kind is 'web'; it must be 'wheels', 'grammar' or 'mtdata'."),
        (f"{SMALL}train: 3\n", ": train is not a known key; remove it or correct its spelling."),
        (WHEELS.replace("{language}", "en"), ": packages.0.files is 'en.json'; it must hold {language} once."),
        (
            WHEELS.replace("{language}", "{language}/{language}"),
            ": packages.0.files is '{language}/{language}.json'; it must hold {language} once.",
        ),
        (
            WHEELS.replace("least: 3", "least: 50"),
            ": cleaning.source_words is {'least': 50, 'most': 40}; it must have a least that is no larger than",
        ),
        ("kind: mtdata\ntrain: []\ndev: a\ntest: b\n", ": train is []; it must have at least 1 item"),
    ],
)
def test_prepare_refuses_a_broken_recipe_by_file_and_key(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "broken.yaml"
    path.write_text(text)
    assert _refused(path).startswith(f"{path}{message}")


def test_preprocess_writes_what_the_next_stages_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = settings("interface-de").replace("corpora/interface.yaml", "small.yaml")
    (tmp_path / "params.yaml").write_text(text)
    (tmp_path / "small.yaml").write_text(SMALL)
    shutil.copytree(ROOT / "corpora", tmp_path / "corpora")
    monkeypatch.chdir(tmp_path)
    written = [Path("reference.tsv"), Path("out/dev.tsv"), Path("out/test.tsv"), Path("out/about.json")]
    before: list[bytes] = []
    for _ in range(2):
        preprocess.main(reference=Path("reference.tsv"), out=Path("out"), downloads=Path("downloads"))
        assert before in ([], [path.read_bytes() for path in written])
        before = [path.read_bytes() for path in written]
        shutil.rmtree("out")
        Path("reference.tsv").rename("again.tsv")
    assert len(bitext.read(Path("again.tsv"))) == 30
    assert "small.yaml, en to de: 30 training pairs, 4 dev, 5 test" in capsys.readouterr().out


def test_preprocess_tells_where_dev_and_test_come_from_and_what_it_does_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = settings("interface-de").replace("corpora/interface.yaml", "own")
    (tmp_path / "params.yaml").write_text(text)
    (tmp_path / "own").mkdir()
    for name, count in (("train", 40), ("valid", 3), ("newstest", 2)):
        for language, word in (("en", "&quot;house&quot;"), ("de", "Haus")):
            lines = [f"{name} {word} {number}\n" for number in range(count)]
            (tmp_path / "own" / f"{name}.{language}").write_text("".join(lines))
    shutil.copytree(ROOT / "corpora", tmp_path / "corpora")
    monkeypatch.chdir(tmp_path)
    preprocess.main(reference=Path("reference.tsv"), out=Path("out"), downloads=Path("downloads"))
    printed = capsys.readouterr()
    assert printed.out.splitlines()[0] == (
        "own, en to de: 36 training pairs, 3 dev (valid.en and valid.de), 4 test (split off from train by seed)"
    )
    assert printed.err.splitlines() == [
        "seqkd preprocess: own: not read: newstest.de, newstest.en; name what you need like train.en or dev.de.",
        "seqkd preprocess: 43 pairs have entities or a tokenizer's marks, such as &quot; or @-@; "
        "data.tidy: true in params.yaml resolves them.",
    ]
