"""A sample's costs, beside what whole pieces of work then take by the processor's clock."""

import json
import random
import time
from pathlib import Path

import pytest
import yaml
from source_tree import ROOT

from seqkd.config import schema
from seqkd.config.schema import Machine, Params
from seqkd.data import bitext, vocab
from seqkd.data.bitext import Pair
from seqkd.planning import sample
from seqkd.planning.costs import Costs, kinds, search_workloads
from seqkd.planning.forecast import Forecast
from seqkd.planning.material import CorpusSample
from seqkd.utils import atomic
from stages import plan

pytestmark = pytest.mark.slow

MACHINE = Machine(processes=1, device="cpu")
DRAWN = random.Random(1)
WORDS = ["".join(DRAWN.choices("abcdefghij", k=4)) for _ in range(300)]
PAIRS = [Pair(at, *(" ".join(DRAWN.choices(WORDS, k=3 + at % 13)) for _ in range(2))) for at in range(1600)]


@pytest.fixture(scope="module")
def params() -> Params:
    """The project's settings with small networks."""
    found = schema.load_params(ROOT / "params.yaml")
    sizes = {"teacher": "2x96", "student": "1x48"}
    networks = {role: getattr(found, role).model_copy(update={"size": size}) for role, size in sizes.items()}
    return found.model_copy(update=networks | {"vocab": schema.VocabSettings(size=400)})


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> CorpusSample:
    path = tmp_path_factory.mktemp("vocab") / "joint.model"
    pieces = vocab.train([text for pair in PAIRS for text in pair[1:]], path, size=400)
    return CorpusSample(PAIRS, pieces, len(PAIRS), 50, 50, ())


@pytest.fixture(scope="module")
def costs(material: CorpusSample, params: Params) -> Costs:
    return sample.measure(material, params, MACHINE, aim=1.0, clock=time.process_time)


def test_everything_a_run_does_has_a_cost(costs: Costs, params: Params, material: CorpusSample) -> None:
    assert set(costs.trainings) == {kind for kind, _ in kinds(params).values()}
    assert set(costs.searches) == search_workloads(params, MACHINE, dev=50, test=50)
    assert set(costs.selections) == set(params.select)
    whole = Forecast(params, MACHINE, costs, material.extent(), material.dev, material.test)
    assert all(line.seconds > 0 and line.memory > 0 for line in whole.lines())


def test_of_work_whose_single_step_takes_long_less_is_measured_and_as_much_is_said(
    costs: Costs, params: Params, material: CorpusSample, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sample, "SLOW", 0.0)
    began = time.process_time()
    quick = sample.measure(material, params, MACHINE, aim=0.001, clock=time.process_time)
    assert time.process_time() - began < 10
    assert (set(quick.trainings), set(quick.searches)) == (set(costs.trainings), set(costs.searches))
    for hunt, found in costs.searches.items():
        if hunt.role == "teacher" and hunt.beam > 1:
            assert found.row / 3 < quick.searches[hunt].row < 3 * found.row
    whole = Forecast(params, MACHINE, quick, material.extent(4_500_000), material.dev, material.test)
    assert all(line.seconds > 0 and line.memory > 0 for line in whole.lines())


@pytest.mark.usefixtures("project")
def test_plan_prints_every_stage_and_whether_it_fits(capsys: pytest.CaptureFixture[str]) -> None:
    plan.main()
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == "A whole run over 1,600 pairs, processes: 1; its download comes on top."
    assert [line.split()[0] for line in printed if line.startswith(("train@", "decode@", "all"))] == [
        "train@teacher", "train@baseline", "decode@k5", "decode@k35", "all"
    ]  # fmt: skip
    assert printed[-1].startswith("It fits: ")


@pytest.fixture
def project(tmp_path: Path, material: CorpusSample, params: Params, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a user has after preprocess and vocab."""
    folder, data = tmp_path, params.data
    monkeypatch.chdir(folder)
    about = {"corpus": data.corpus, "source": data.source, "target": data.target}
    (folder / "machine.yaml").write_text("processes: 1\ndevice: cpu\n")
    (folder / "params.yaml").write_text(yaml.safe_dump(params.model_dump(), sort_keys=False))
    (folder / "dvc.yaml").write_bytes((ROOT / "dvc.yaml").read_bytes())
    bitext.write(folder / "data/text/reference.tsv", PAIRS)
    with atomic.open_text(folder / "data/corpus/about.json") as file:
        json.dump(about | {"pairs": {"train": len(PAIRS), "dev": 50, "test": 50}}, file)
    (folder / "data/vocab").mkdir()
    (folder / "data/vocab/joint.model").write_bytes(material.vocab.model)
