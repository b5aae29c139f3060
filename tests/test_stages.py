import json
import re
import shutil
from pathlib import Path

import pytest
from made_up import write_evidence
from networks import save_untrained_model
from source_tree import ROOT

from seqkd.config import load
from seqkd.data import bitext, nbest, vocab
from seqkd.data.bitext import Pair
from seqkd.data.nbest import Hypothesis
from seqkd.evaluation import measurements, metrics
from seqkd.evaluation.measurements import ModelScores
from seqkd.selection import audit
from seqkd.utils.errors import InputError
from stages import evaluate, report, select, show


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with the project's settings and one worker."""
    shutil.copy(ROOT / "params.yaml", tmp_path)
    (tmp_path / "machine.yaml").write_text("processes: 1\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _lists(folder: Path) -> list[Pair]:
    """reference.tsv, joint.model and an n-best list whose second hypothesis is the human target."""
    pairs = [Pair(2 * line, f"house {line}", f"ein Haus mit {line} Türen") for line in range(30)]
    bitext.write(folder / "reference.tsv", pairs)
    pieces = vocab.train([pair.target for pair in pairs], folder / "joint.model", size=50)
    texts = {pair.id: [f"ein Haus mit Türen {pair.id}", pair.target] for pair in pairs}
    entries = [
        (pair, [Hypothesis(tuple(pieces.encode(text)), -float(rank), True) for rank, text in enumerate(texts[pair.id])])
        for pair in pairs
    ]
    for row in load.params().decode:
        nbest.write_part(folder / "lists" / row, 0, entries)
    return pairs


def _select(folder: Path, row: str) -> None:
    select.main(
        row,
        lists=folder / "lists",
        reference=folder / "reference.tsv",
        vocab=folder / "joint.model",
        texts=folder,
        audits=folder,
    )


def test_select_writes_a_text_with_the_ids_of_the_human_one(project: Path) -> None:
    pairs = _lists(project)
    row = next(row for row, settings in load.params().select.items() if settings.metric == "bleu")
    _select(project, row)
    assert bitext.read(project / f"{row}.tsv") == pairs
    audit = json.loads((project / f"{row}.json").read_text())
    assert audit["ranks"] == [0, 30]
    written = [project / f"{row}.tsv", project / f"{row}.json"]
    before = [path.read_bytes() for path in written]
    (project / "machine.yaml").write_text("processes: 2\n")
    _select(project, row)
    assert [path.read_bytes() for path in written] == before


@pytest.mark.parametrize(("target", "tokenizer"), [("de", "13a"), ("zh_CN", "zh"), ("th", "char")])
def test_select_counts_the_words_of_the_target_language(project: Path, target: str, tokenizer: str) -> None:
    text = (project / "params.yaml").read_text()
    (project / "params.yaml").write_text(re.sub(r"target: \w+", f"target: {target}", text, count=1))
    _lists(project)
    row = next(iter(load.params().select))
    _select(project, row)
    assert f"|tok:{tokenizer}|" in json.loads((project / f"{row}.json").read_text())["signature"]


@pytest.mark.slow
@pytest.mark.parametrize(("target", "tokenizer"), [("de", "13a"), ("zho_Hans", "zh"), ("th", "char")])
def test_evaluate_scores_the_words_of_the_target_language(project: Path, target: str, tokenizer: str) -> None:
    text = (project / "params.yaml").read_text()
    (project / "params.yaml").write_text(re.sub(r"target: \w+", f"target: {target}", text, count=1))
    save_untrained_model(project, []).rename(project / "baseline")
    bitext.write(project / "test.tsv", [Pair(0, "der Kater saß", "der Kater saß auf der Matte")])
    evaluate.main(
        "baseline", models=project, test=project / "test.tsv", translations=project / "said", out=project / "scores"
    )
    scores = measurements.read(ModelScores, project / "scores/baseline.json")
    translations = (project / "said/baseline/beam5.txt").read_text().splitlines()
    references = ["der Kater saß auf der Matte"]
    assert f"|tok:{tokenizer}|" in (scores.signature_bleu or "")
    assert scores.bleu(5) == metrics.bleu(translations, references, tokenizer=tokenizer).value
    ratio = metrics.length_ratio(translations, references, tokenizer=tokenizer)
    assert scores.beams["5"].length_ratio == ratio


def test_select_refuses_a_list_of_another_text(project: Path) -> None:
    pairs = _lists(project)
    bitext.write(project / "reference.tsv", [pair._replace(id=pair.id + 1) for pair in pairs])
    row = next(iter(load.params().select))
    with pytest.raises(InputError, match="id 0 stands where the text has id 1"):
        _select(project, row)
    assert not (project / f"{row}.tsv").exists()


def test_select_refuses_an_unknown_row_by_name(project: Path) -> None:
    with pytest.raises(InputError, match="select has no row 'nonsense'; name one of "):
        _select(project, "nonsense")


def _measure(folder: Path) -> None:
    """Made-up results of every row of params.yaml."""
    params = load.params()
    scored = {
        "parameters": 1000,
        "remaining": 1000,
        "bytes": 4000,
        "perplexity": 9.0,
        "mode_probability": 0.1,
        "signature_bleu": "nrefs:1",
        "signature_chrf": "nrefs:1",
    }
    for name in ("scores", "curves", "audit"):
        (folder / name).mkdir()
    for place, model in enumerate([*params.models, *(f"prune-{ratio}" for ratio in params.prune.ratios)]):
        beams = {str(beam): {"bleu": 20.0 - place, "chrf": 40.0, "length_ratio": 1.0} for beam in params.evaluate.beams}
        (folder / "scores" / f"{model}.json").write_text(json.dumps(scored | {"model": model, "beams": beams}))
        curve = "epoch,updates,learning_rate,train_loss,dev_perplexity\n1,9,0.1,2.0,9.5\n"
        (folder / "curves" / f"{model}.csv").write_text(curve)
    names = [*params.models, *params.pruned]
    bleu = {model: dict.fromkeys(params.evaluate.beams, 20.0 - place) for place, model in enumerate(names)}
    write_evidence(folder / "evidence", bleu, best=params.models[-1])
    for row, settings in params.select.items():
        stats = audit.SelectionStats()
        stats.count_line([Hypothesis((4,), -1.0, True)] * 2, ["ein Hund", "der Hund"], 1)
        measurements.write(folder / "audit" / f"{row}.json", audit.summarize(stats, row, settings, tokenizer="13a"))


def _report(folder: Path) -> None:
    report.main(
        scores=folder / "scores",
        curves=folder / "curves",
        audits=folder / "audit",
        evidence=folder / "evidence",
        out=folder / "reports",
    )


def test_report_writes_tables_metrics_and_plots_and_show_prints_them(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _measure(project)
    _report(project)
    printed = capsys.readouterr().out
    written = {path.name for path in (project / "reports").iterdir()}
    assert written == {"metrics.json", "plots"} | {
        f"{name}.{form}" for name in ("table1", "table3", "faults") for form in ("csv", "md")
    }
    models = load.params().models
    assert all(model in printed for model in models)
    assert list(json.loads((project / "reports" / "metrics.json").read_text()))[: len(models)] == models
    show.main(reports=project / "reports")
    shown = capsys.readouterr().out
    table, _, certainty = printed.partition("\nBLEU is sure")
    assert table in shown
    assert certainty in shown
    assert "Table 2. Speed: not measured yet" in shown
    assert "Table 3. Pruning" in shown


def test_report_is_one_sentence_where_a_row_has_no_results(project: Path) -> None:
    _measure(project)
    (project / "scores" / "baseline.json").unlink()
    with pytest.raises(InputError, match=r"a row baseline without results; run dvc repro\.$"):
        _report(project)
