"""`seqkd plan` in a small project: what it reads, what it prints, what it refuses."""

import json
import re
from pathlib import Path

import plan_sample
import pytest
import yaml
from source_tree import ROOT

from seqkd.config import schema
from seqkd.config.schema import Params
from seqkd.data import bitext
from seqkd.ops import matmul
from seqkd.planning import bounds, plan
from seqkd.planning.plan import Sample, Stage
from seqkd.utils import atomic
from seqkd.utils.errors import InputError
from stages import plan as plan_stage


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory, params: Params) -> Sample:
    return plan_sample.make(tmp_path_factory.mktemp("vocab"), params)


@pytest.fixture
def project(tmp_path: Path, sample: Sample, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What a user has before the corpus is made."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "machine.yaml").write_text("processes: 1\ndevice: cpu\n")
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(sample.params.model_dump(by_alias=True), sort_keys=False))
    (tmp_path / "dvc.yaml").write_bytes((ROOT / "dvc.yaml").read_bytes())
    monkeypatch.setattr(plan, "ENOUGH", 0.05)
    return tmp_path


@pytest.fixture
def corpus(project: Path, sample: Sample) -> Path:
    """What preprocess and vocab write there; about.json."""
    data, about = sample.params.data, project / "data/corpus/about.json"
    named = {"corpus": data.corpus, "source": data.source, "target": data.target}
    bitext.write(project / "data/text/reference.tsv", sample.pairs)
    with atomic.open_text(about) as file:
        json.dump(named | {"pairs": {"train": len(sample.pairs), "dev": 50, "test": 40}}, file)
    (project / "data/vocab").mkdir()
    (project / "data/vocab/joint.model").write_bytes(sample.vocab.model)
    return about


@pytest.mark.slow
@pytest.mark.usefixtures("corpus")
def test_plan_prints_what_the_precision_costs_every_stage_and_that_it_fits(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(matmul, "precision_cost", lambda precision: f"{precision} takes long")
    plan_stage.main()
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == "A whole run over 600 pairs, processes: 1; its download comes on top."
    assert printed[1] == "Note: bf16 takes long."
    assert printed[2].split() == ["stage", "time", "disk,", "MB", "memory,", "MB"]
    assert len(printed[4:-2]) == 20
    assert printed[-3].startswith("all ")
    assert printed[-1].startswith("It fits: ")


@pytest.mark.slow
@pytest.mark.usefixtures("project")
def test_plan_of_a_corpus_to_come_is_made_of_invented_text_and_refused_where_it_cannot_fit(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bounds, "free_memory", lambda: 300_000_000)
    with pytest.raises(
        InputError, match=r"^a whole run needs about (\d,)?\d{3} MB of memory, and 300 MB is free; lower"
    ):
        plan_stage.main(pairs=4_500_000)
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].startswith("A whole run over 4,500,000 pairs")
    assert printed[1] == "corpora/interface.yaml is not there yet: sentences as long as in news are assumed."
    assert re.match(r"all +(\d+ days?, )?\d+:\d\d:\d\d ", printed[-2])


def read_sample(sample: Sample, pairs: int | None = None) -> tuple[Sample, list[str]]:
    return plan_stage.read_sample(sample.params, sample.machine, pairs)


@pytest.mark.usefixtures("corpus")
def test_plan_takes_the_corpus_that_is_there(sample: Sample, monkeypatch: pytest.MonkeyPatch) -> None:
    own, assumed = read_sample(sample)
    assert (own.pairs, own.train, own.dev, own.test, assumed) == (sample.pairs, 600, 50, 40, [])
    more, assumed = read_sample(sample, 10_000)
    assert (more.pairs, more.train) == (sample.pairs, 10_000)
    assert assumed == ["10,000 pairs like the 600 of data/text/reference.tsv are assumed."]
    monkeypatch.setattr(plan_stage, "SAMPLED", 250)
    assert read_sample(sample)[0].pairs == sample.pairs[::3]


def test_plan_does_not_take_another_corpus_for_that_of_the_settings(sample: Sample, corpus: Path) -> None:
    corpus.write_text(corpus.read_text().replace("interface", "another"))
    with pytest.raises(InputError, match=r"is not there yet; run dvc repro vocab, or give its size with --pairs\.$"):
        read_sample(sample)
    own, assumed = read_sample(sample, 1000)
    assert (own.train, own.vocab.size, len(assumed)) == (1000, 200, 1)
    assert own.pairs[0] not in sample.pairs


@pytest.mark.parametrize("size", [schema.MIN_VOCAB_SIZE, 32_000])
def test_plan_invents_sentences_as_long_as_in_news_for_every_size_of_vocabulary(size: int) -> None:
    pairs, pieces = plan_stage._made_up(size)
    assert pieces.size == size
    lengths = [len(pieces.encode(pair.source)) for pair in pairs[:1000]]
    assert sum(lengths) / 1000 == pytest.approx(33, rel=0.1)


def test_plan_finds_the_corpus_where_the_pipeline_puts_it(tmp_path: Path) -> None:
    expected = [Path("data/corpus"), Path("data/text/reference.tsv"), Path("data/vocab/joint.model")]
    assert plan_stage._outs(ROOT / "dvc.yaml") == expected
    (tmp_path / "dvc.yaml").write_text("stages: {preprocess: {outs: [a]}, vocab: {}}\n")
    with pytest.raises(InputError, match="the outs of preprocess and vocab must be"):
        plan_stage._outs(tmp_path / "dvc.yaml")


def test_table_ends_with_the_whole_run() -> None:
    stages = [Stage("train", 90.0, 2e6, 4e8), Stage("decode", 90_000.0, 1e6, 2e9)]
    assert plan_stage._table(stages).splitlines() == [
        "stage              time    disk, MB    memory, MB",
        "-------  --------------  ----------  ------------",
        "train           0:01:30           2           400",
        "decode   1 day, 1:00:00           1         2,000",
        "all      1 day, 1:01:30           3         2,000",
    ]
