"""The text a sample is taken from: the corpus's own as far as it is there."""

import json
from pathlib import Path

import pytest
from source_tree import ROOT

from seqkd.config.schema import Params
from seqkd.data import bitext, vocab
from seqkd.data.bitext import Pair
from seqkd.planning import material
from seqkd.planning.budget import CorpusStats
from seqkd.planning.material import CorpusSample, Places
from seqkd.utils.errors import InputError

PAIRS = [Pair(3 * at, f"the house {at}", f"das Haus {at} da") for at in range(60)]


def about(params: Params, corpus_name: str | None = None) -> str:
    data = params.data
    named = {"corpus": corpus_name or data.corpus, "source": data.source, "target": data.target}
    return json.dumps(named | {"pairs": {"train": 60, "dev": 7, "test": 8}})


@pytest.fixture
def folder(tmp_path: Path, params: Params) -> Path:
    """What preprocess and vocab leave."""
    bitext.write(tmp_path / "reference.tsv", PAIRS)
    (tmp_path / "about.json").write_text(about(params))
    vocab.train([text for pair in PAIRS for text in pair[1:]], tmp_path / "joint.model", size=40)
    return tmp_path


def gather(folder: Path, params: Params, pairs: int | None = None) -> CorpusSample:
    return material.gather(params, Places(folder, folder / "reference.tsv", folder / "joint.model"), pairs=pairs)


def test_the_places_are_those_of_the_pipeline() -> None:
    found = material.places(ROOT / "dvc.yaml")
    assert found == Places(Path("data/corpus"), Path("data/text/reference.tsv"), Path("data/vocab/joint.model"))
    with pytest.raises(InputError, match="no such file; run this in the project's folder"):
        material.places(ROOT / "no-dvc.yaml")


def test_a_corpus_that_is_there_is_taken_as_it_is(folder: Path, params: Params) -> None:
    found = gather(folder, params)
    assert found.pairs == PAIRS
    assert (found.train, found.dev, found.test, found.notes) == (60, 7, 8, ())
    assert found.extent() == CorpusStats.of(*found.pieces())
    assert found.vocab.size == 40


def test_another_number_of_pairs_like_these_can_be_asked_for(folder: Path, params: Params) -> None:
    found = gather(folder, params, pairs=1000)
    assert (found.train, found.pairs) == (1000, PAIRS)
    assert found.extent().pairs == 1000
    assert found.notes == (f"1,000 pairs like the 60 of {folder / 'reference.tsv'} assumed.",)


def test_without_a_vocabulary_one_is_learnt_from_the_text(folder: Path, params: Params) -> None:
    (folder / "joint.model").unlink()
    found = gather(folder, params)
    assert found.vocab.decode(found.vocab.encode("das Haus")) == "das Haus"
    assert "The vocabulary is not there yet" in found.notes[0]


def test_without_a_corpus_the_number_of_pairs_is_asked_for(tmp_path: Path, params: Params) -> None:
    with pytest.raises(InputError, match=r"is not there yet; run dvc repro vocab, or give its size with --pairs\.$"):
        gather(tmp_path, params)


@pytest.mark.slow
@pytest.mark.parametrize("other", [True, False], ids=["another corpus", "no corpus"])
def test_text_of_another_corpus_is_not_taken_for_this_one(folder: Path, params: Params, *, other: bool) -> None:
    (folder / "about.json").unlink()
    if other:
        (folder / "about.json").write_text(about(params, "corpora/another.yaml"))
    found = gather(folder, params, pairs=5_000_000)
    assert found.train == 5_000_000
    assert found.pairs[0] not in PAIRS
    assert len(found.pairs) == material.MOST
    assert found.extent().source == pytest.approx(25, rel=0.2)
    assert "sentences of 25 words assumed" in found.notes[0]


def test_of_a_long_text_every_so_manyeth_pair_is_taken(folder: Path) -> None:
    found, count = material.thinned(folder / "reference.tsv", 25)
    assert (found, count) == (PAIRS[::3], 60)


def test_a_broken_line_is_named(folder: Path) -> None:
    with (folder / "reference.tsv").open("a") as file:
        file.write("no number\ta\tb\n")
    with pytest.raises(InputError, match="line 61: not 'id, source, target'"):
        material.thinned(folder / "reference.tsv", 100)
