"""One training from files to a model's folder, and what its saved state is known by."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from source_tree import ROOT

from seqkd.config import load
from seqkd.config.machine import Machine
from seqkd.config.schema import DistillSettings, NetworkSettings, Params
from seqkd.data import bitext, vocab
from seqkd.data.bitext import Pair
from seqkd.data.vocab import BOS, EOS, PAD, UNK
from seqkd.models import checkpoint, ensemble, perplexity
from seqkd.models.checkpoint import Model
from seqkd.ops import devices, matmul
from seqkd.training import cluster_teacher, curve, run, teacher, training_state
from seqkd.training.run import TrainingRun
from seqkd.utils import cache_dir, fingerprint
from seqkd.utils.errors import InputError

ONE = Machine(processes=1, device="cpu")
PAIRS = [Pair(2 * number, f"house {number} is red", f"Haus {number} ist rot") for number in range(40)]
LONG = Pair(99, "house " * 50, "Haus")
SIZE = NetworkSettings(size="1x8", dropout=0.1)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with texts, a development set and a vocabulary."""
    monkeypatch.chdir(tmp_path)
    bitext.write(tmp_path / "text/reference.tsv", [*PAIRS, LONG])
    bitext.write(tmp_path / "text/seq_kd.tsv", PAIRS[:20])
    bitext.write(tmp_path / "corpus/dev.tsv", PAIRS[:5])
    (tmp_path / "corpus/about.json").write_text(json.dumps({"corpus": "houses", "source": "en", "target": "de"}))
    vocab.train([text for pair in PAIRS for text in pair[1:]], tmp_path / "joint.model", size=60)
    return tmp_path


@pytest.fixture
def params() -> Params:
    """The project's settings with short trainings."""
    params = load.params(ROOT / "params.yaml")
    short = {name: getattr(params.optim, name).model_copy(update={"epochs": 2}) for name in ("student", "finetune")}
    data = params.data.model_copy(update={"max_length": 30})
    return params.model_copy(update={"data": data, "optim": params.optim.model_copy(update=short)})


def _model(project: Path, seed: int = 1, *, dropout: float = 0.1) -> Model:
    size = SIZE.model_copy(update={"dropout": dropout})
    return run.init_model(vocab.load(project / "joint.model"), size, seed=seed, device=torch.device("cpu"))


def _spec(project: Path, **other: Any) -> TrainingRun:
    return TrainingRun(
        **{
            "name": "small",
            "optim": "student",
            "text": project / "text/reference.tsv",
            "corpus": project / "corpus",
            "init_from": "random",
            **other,
        }
    )


def _resume(model: Model, spec: TrainingRun, params: Params) -> Path:
    folder = run.prepare(model, spec, params, ONE).job.resume
    assert folder is not None
    return folder


def test_trainings_one_after_the_other_are_checked_trained_and_saved(
    project: Path, params: Params, capsys: pytest.CaptureFixture[str]
) -> None:
    first, checked = _spec(project), list[tuple[str, int]]()
    second = replace(first, optim="finetune", text=project / "text/seq_kd.tsv")
    run.train_and_save(
        _model(project),
        [first, second],
        params,
        ONE,
        check=lambda job, *_: checked.append((job.optim, len(job.text.sources))),
        out=project / "models/small",
        curve_out=project / "curves/small.csv",
    )
    assert checked == [("student", 40), ("finetune", 20)]
    epochs = curve.read(project / "curves/small.csv")
    assert [(line.epoch, line.updates) for line in epochs] == [(1, 1), (2, 2), (3, 3), (4, 4)]
    card = (project / "models/small/README.md").read_text()
    assert "- pairs: 40 of 41; the others have more than 30 pieces (data.max_length) or an empty side" in card
    assert "- train_text: seq_kd" in card
    assert f"- learning_rate: {params.optim.finetune.learning_rate}" in card
    assert f"- perplexity: {epochs[-1].dev_perplexity:.2f}" in card
    assert "small: pairs: 40 of 41; " in capsys.readouterr().err
    assert checkpoint.load(project / "models/small").network.shape.hidden == 8
    assert len(list((project / ".resume").glob(f"*/{cache_dir.COMPLETE}"))) == 2


def test_training_from_random_weights_leaves_pieces_out_that_no_target_has(project: Path, params: Params) -> None:
    model = _model(project)
    prepared = run.prepare(model, _spec(project), params, ONE)
    used = {EOS}.union(*prepared.job.text.targets)
    probabilities = torch.softmax(model.network.logits(torch.rand(9, 8)), 1).detach()
    unused = [piece for piece in range(model.vocab.size) if piece not in used]
    assert {PAD, UNK, BOS} < set(unused) < set(range(model.vocab.size))
    assert float(probabilities[:, unused].max()) < 1e-6
    assert float(probabilities[:, sorted(used)].min()) > 1e-3


def test_training_from_a_model_leaves_its_weights_as_they_are(project: Path, params: Params) -> None:
    model = _model(project)
    before = [weights.clone() for weights in model.network.parameters()]
    run.prepare(model, _spec(project, init_from="baseline"), params, ONE)
    assert all(map(torch.equal, model.network.parameters(), before))


def test_training_that_a_check_refuses_writes_nothing(project: Path, params: Params) -> None:
    def refuse(*_: object) -> None:
        raise InputError("too large")

    before = sorted(project.rglob("*"))
    out, curve_out = project / "models/small", project / "curves/small.csv"
    with pytest.raises(InputError, match="too large"):
        run.train_and_save(_model(project), [_spec(project)], params, ONE, check=refuse, out=out, curve_out=curve_out)
    assert sorted(project.rglob("*")) == before


def test_training_resumes_from_the_state_that_an_interrupted_one_left(project: Path, params: Params) -> None:
    model = _model(project)
    prepared = run.prepare(model, _spec(project), params, ONE)
    result = run.train(prepared, ONE)
    assert prepared.job.resume is not None
    assert training_state.latest(prepared.job.resume) is not None
    again = _model(project)
    same = run.prepare(again, _spec(project), params, ONE)
    assert same.job.resume == prepared.job.resume
    assert run.train(same, ONE).epochs == result.epochs
    for one, other in zip(again.network.parameters(), model.network.parameters(), strict=True):
        assert torch.equal(one, other)


def test_resume_folder_is_another_one_for_another_text_setting_loss_size_or_start(
    project: Path, params: Params
) -> None:
    checkpoint.save(project / "models/teacher", _model(project, seed=2), card="")
    model, spec = _model(project), _spec(project)
    word_kd = replace(spec, alpha=0.5, teacher=project / "models/teacher")
    folders = [
        _resume(model, spec, params),
        _resume(model, replace(spec, text=project / "text/seq_kd.tsv"), params),
        _resume(model, replace(spec, optim="finetune"), params),
        _resume(model, spec, params.model_copy(update={"seed": params.seed + 1})),
        _resume(model, spec, params.model_copy(update={"precision": "fp32"})),
        _resume(model, word_kd, params),
        _resume(model, replace(word_kd, top_k=4), params),
        _resume(_model(project, seed=2), spec, params),
        _resume(_model(project, dropout=0.2), spec, params),
    ]
    assert len(set(folders)) == len(folders)


@pytest.mark.parametrize("faster", [True, False])
def test_precision_auto_has_the_state_and_the_card_of_what_it_stands_for(
    project: Path, params: Params, faster: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(matmul, "bf16_is_faster", lambda: faster)
    auto, chosen = (params.model_copy(update={"precision": each}) for each in ("auto", "bf16" if faster else "fp32"))
    one, other = (run.prepare(_model(project), _spec(project), each, ONE) for each in (auto, chosen))
    assert one.job.resume == other.job.resume
    assert one.card["precision"] == chosen.precision


@pytest.mark.slow
@pytest.mark.parametrize(
    ("edited", "usable"),
    [
        ("decoding/beam_search.py", True),
        ("reporting/charts.py", True),
        ("corpora/cleaning.py", True),
        ("selection/select.py", True),
        ("evaluation/metrics.py", True),
        ("planning/bounds.py", True),
        ("utils/progress.py", True),
        ("training/optimizer.py", False),
        ("training/graphed_forward.py", False),
        ("models/lstm.py", False),
        ("ops/cpu/gemm.py", False),
        ("data/batches.py", False),
    ],
)
def test_resume_folder_survives_an_edit_of_what_training_does_not_use(
    project: Path, params: Params, monkeypatch: pytest.MonkeyPatch, edited: str, usable: bool
) -> None:
    """The state of a killed training is found again after an edit of a plot, not after one of the optimizer."""
    copy = project / "copy/seqkd"
    shutil.copytree(fingerprint.PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    fingerprint_of = fingerprint.of
    monkeypatch.setattr(fingerprint, "of", lambda *modules: fingerprint_of(*modules, package=copy))
    before = _resume(_model(project), _spec(project), params)
    with (copy / edited).open("a") as file:
        file.write("\nEDITED = True\n")
    after = _resume(_model(project), _spec(project), params)
    assert (after == before) == usable


def test_word_kd_with_a_teacher_of_another_vocabulary_is_refused(project: Path, params: Params) -> None:
    other = vocab.train([f"{word} tree" for word in "abcdefgh"], project / "other.model", size=20)
    teacher = run.init_model(other, SIZE, seed=1, device=torch.device("cpu"))
    checkpoint.save(project / "models/teacher", teacher, card="")
    spec = _spec(project, alpha=0.5, teacher=project / "models/teacher")
    with pytest.raises(InputError, match="models/teacher: its vocabulary is not that of small; train both anew"):
        run.prepare(_model(project), spec, params, ONE)


def test_word_kd_with_top_k_keeps_its_targets_in_the_cache(project: Path, params: Params) -> None:
    checkpoint.save(project / "models/teacher", _model(project, seed=2), card="")
    spec = _spec(project, alpha=0.5, teacher=project / "models/teacher", top_k=4)
    prepared = run.prepare(_model(project), spec, params, ONE)
    run.train(prepared, ONE)
    assert prepared.job.top_k_cache is not None
    assert [path.name for path in prepared.job.top_k_cache.folder.iterdir()] == ["00000000"]
    assert (prepared.card["teacher"], prepared.card["top_k"]) == ("teacher", 4)


@pytest.mark.slow
def test_word_kd_has_the_targets_and_the_bits_of_one_process_with_a_cluster(
    project: Path, params: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("distributed", reason="needs the extra cluster")
    from benchmarks.local_cluster import Local

    devices.configure(ONE, params.precision)  # as the stages do
    monkeypatch.setattr(cluster_teacher, "LINES_PER_FILE", 15)
    monkeypatch.setattr(teacher, "LINES_PER_FILE", 15)
    checkpoint.save(project / "models/teacher", _model(project, seed=2), card="")
    spec = _spec(project, alpha=0.5, teacher=Path("models/teacher"), top_k=4)
    here, there = project / "here", project / "there"
    local = Local(project)
    with local.stack:
        local.start_worker()
        for out, machine in ((here, ONE), (there, ONE.model_copy(update={"cluster": local.address}))):
            curve_out = project / f"{out.name}.csv"
            run.train_and_save(_model(project), [spec], params, machine, check=_allow, out=out, curve_out=curve_out)
            shutil.move(project / ".resume/top_k_targets", out / "targets")
            shutil.rmtree(project / ".resume")
            monkeypatch.setattr(teacher.TopKTargets, "compute_file", None)  # with a cluster, not in this process
    files = sorted(path.relative_to(here) for path in here.rglob("*") if path.is_file())
    assert len([path for path in files if "targets" in path.parts]) == 3
    assert [(there / path).read_bytes() for path in files] == [(here / path).read_bytes() for path in files]


def test_row_without_word_kd_needs_no_teacher() -> None:
    paths = {"texts": Path("text"), "corpus": Path("corpus"), "teacher": Path("teacher")}
    for alpha, folder in ((0.0, None), (0.5, Path("teacher"))):
        row = DistillSettings(train_text="seq_kd", alpha=alpha)
        spec = TrainingRun.of_row("row", row, optim="student", init_from="random", **paths)
        assert (spec.text, spec.teacher) == (Path("text/seq_kd.tsv"), folder)


def test_ensemble_has_the_members_that_trainings_of_its_seeds_give(project: Path, params: Params) -> None:
    """Member by member the same bits as plain networks trained with the seeds 17 and 18."""
    both = run.init_model(
        vocab.load(project / "joint.model"), SIZE.model_copy(update={"members": 2}), seed=17, device=torch.device("cpu")
    )
    run.train_and_save(
        both, [_spec(project)], params, ONE, check=_allow, out=project / "both", curve_out=project / "both.csv"
    )
    loaded = checkpoint.load(project / "both").network
    for number, member in enumerate(ensemble.members(loaded)):
        other = params.model_copy(update={"seed": 17 + number})
        alone = _model(project, seed=17 + number)
        run.train_and_save(
            alone, [_spec(project)], other, ONE, check=_allow, out=project / "one", curve_out=project / "one.csv"
        )
        assert all(map(torch.equal, member.parameters(), alone.network.parameters()))
    card = (project / "both/README.md").read_text()
    assert "an ensemble of 2 networks of 1x8" in card
    assert "- seed: 17" in card
    assert "- seed: 18" in card
    dev = run.prepare(both, _spec(project), params, ONE).job.dev
    assert f"perplexity: {perplexity.perplexity(loaded, dev):.2f}" in card


def _allow(*_: object) -> None:
    """A check that refuses nothing."""


def test_masks_of_an_ensemble_belong_to_its_members(project: Path) -> None:
    size = SIZE.model_copy(update={"members": 2})
    both = run.init_model(vocab.load(project / "joint.model"), size, seed=1, device=torch.device("cpu"))
    mask = (
        torch.rand(sum(map(torch.numel, both.network.parameters())), generator=torch.Generator().manual_seed(1)) < 0.5
    )
    first, second = run.members(both._replace(mask=mask))
    assert first.mask is not None
    assert second.mask is not None
    assert torch.equal(torch.cat((first.mask, second.mask)), mask)
    assert len(first.mask) == sum(map(torch.numel, first.network.parameters()))


def test_row_may_have_its_own_number_of_epochs(project: Path, params: Params) -> None:
    row = DistillSettings(train_text="reference", alpha=0.0, epochs=5)
    paths = {"texts": project / "text", "corpus": project / "corpus", "teacher": project / "teacher"}
    spec = TrainingRun.of_row("longer", row, optim="student", init_from="random", **paths)
    assert run.prepare(_model(project), spec, params, ONE).job.settings.epochs == 5
    assert run.prepare(_model(project), _spec(project), params, ONE).job.settings.epochs == 2


def test_text_that_repeats_its_lines_is_trained_on_as_often(project: Path, params: Params) -> None:
    mixed = bitext.mix({project / "text/reference.tsv": 2, project / "text/seq_kd.tsv": 3})
    bitext.write(project / "text/mixed.tsv", mixed)
    prepared = run.prepare(_model(project), _spec(project, text=project / "text/mixed.tsv"), params, ONE)
    assert len(prepared.job.text.sources) == 2 * 40 + 3 * 20
    assert (
        prepared.card["pairs"] == "140 of 142; the others have more than 30 pieces (data.max_length) or an empty side"
    )
