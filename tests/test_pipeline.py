"""dvc.yaml against the source: what a stage's result depends on is computed from its imports."""

from pathlib import Path

import pytest
import yaml
from dvc_file import instances, leaves, lookup, paths, stage_file, tracked
from source_tree import ROOT, closure, edges, modules, sections

from seqkd.config import schema

# The one list of modules that no stage need name in its deps, because an edit of them changes no result.
NEUTRAL = {
    "seqkd/errors.py": "only worded messages",
    "seqkd/whole.py": "only when a file takes its place",
    "seqkd/progress.py": "only what the terminal shows",
    "seqkd/workers.py": "only spreads work over processes; results come in the items' order",
    "seqkd/budget.py": "only refuses what cannot fit; what fits is done as before",
    "seqkd/snapshot.py": "only how interrupted work is kept",
    "seqkd/lifetime.py": "only which processes live, and what ends them",
    "seqkd/resume.py": "only where interrupted work is kept; work taken up again ends in the same bits",
    "seqkd/document.py": "only reads params.yaml and recipes, as DVC does",
    "seqkd/config.py": "only passes on values, which DVC tracks as params; its defaults are pinned by a test below",
}


def wrong_deps(root: Path = ROOT) -> list[str]:
    """One line a template whose .py deps are not what its imports say: what to add, what to remove."""
    graph = edges(modules(root))
    told: dict[str, str] = {}
    for name, spec in instances(root).items():
        file = stage_file(spec)
        if file not in graph:
            told[file] = f"{name}: there is no {file}"
            continue
        needed = {path for path in closure(file, graph) - set(NEUTRAL) if not path.endswith("/__init__.py")}
        named = {path for path in paths(spec.get("deps", ())) if path.endswith(".py")}
        mend = [f"add {path}" for path in sorted(needed - named)]
        mend += [f"remove {path}" for path in sorted(named - needed)]
        if mend:
            template = name.partition("@")[0]
            told[template] = f"{template}, deps: {', '.join(mend)}"
    return list(told.values())


def test_the_python_files_in_a_stages_deps_are_those_that_can_change_its_result() -> None:
    wrong = wrong_deps()
    assert not wrong, "dvc.yaml:\n" + "\n".join(wrong)


def test_every_parameter_a_stage_lists_exists() -> None:
    values = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    for name, spec in instances().items():
        for key in tracked(spec):
            try:
                lookup(values, key)
            except (KeyError, TypeError, IndexError):
                pytest.fail(f"dvc.yaml, {name}: params.yaml has no {key}")


def test_every_section_a_stage_reads_is_tracked_by_dvc() -> None:
    """A value that is in neither cmd, deps nor params can change without a rerun."""
    trees = modules()
    for name, spec in instances().items():
        listed = {key.split(".")[0] for key in tracked(spec)}
        missing = sections(trees, stage_file(spec), "main") - listed
        assert not missing, f"dvc.yaml, {name}: add to params what the stage reads: {sorted(missing)}"


def test_a_size_is_listed_by_itself_too_because_dvcs_run_cache_overlooks_it_inside_a_section() -> None:
    """DVC drops every key named size or nfiles, wherever it stands, from the key under which it keeps old runs: with
    only `student` listed, a student of another size would get the outs of the last one."""
    values = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    for name, spec in instances().items():
        listed = tracked(spec)
        hidden = [leaf for key in listed for leaf in leaves(lookup(values, key), key) if leaf != key]
        missing = {leaf for leaf in hidden if leaf.endswith((".size", ".nfiles"))} - set(listed)
        assert not missing, f"dvc.yaml, {name}: add to params, beside its section: {sorted(missing)}"


def test_every_stage_of_the_pipeline_writes_something_of_its_own() -> None:
    seen: dict[str, str] = {}
    for name, spec in instances().items():
        outs = [paths(spec.get(kind, ())) for kind in ("outs", "metrics", "plots")]
        for path in set().union(*outs):
            assert path not in seen, f"{name} and {seen[path]} both write {path}"
            seen[path] = name


def test_a_default_of_the_settings_is_pinned_because_dvc_sees_only_params_yaml() -> None:
    """To change one, write the value into params.yaml, where a change reruns what it touches."""
    records = (
        schema.OptimizerSettings,
        schema.DecodeSettings,
        schema.SelectSettings,
        schema.EvaluateSettings,
        schema.NetworkSettings,
        schema.PruneSettings,
    )
    found = {
        f"{record.__name__}.{name}": field.default
        for record in (
            *records,
            schema.DataSettings,
            schema.VocabSettings,
            schema.DistillSettings,
            schema.FinetuneSettings,
            schema.Params,
        )
        for name, field in record.model_fields.items()
        if not field.is_required()
    }
    assert found == DEFAULTS


DEFAULTS: dict[str, object] = {
    "Network.spread": 0.1,
    "Network.embedding_spread": 0.1,
    "OptimizerSettings.beta2": 0.999,
    "OptimizerSettings.clip": 5.0,
    "OptimizerSettings.warmup": 100,
    "OptimizerSettings.halve_from": 9,
    "OptimizerSettings.patience": 0,
    "OptimizerSettings.keep": "last",
    "OptimizerSettings.loss_per": "word",
    "OptimizerSettings.shares": 2,
    "Search.normalise": 0.0,
    "Select.smoothing": "add-k",
    "Select.smoothing_value": 1.0,
    "Evaluate.normalise": 0.0,
    "Distill.top_k": 0,
    "Finetune.top_k": 0,
}


# The check itself, on a pipeline small enough to see through.

TINY = {
    "params.yaml": "sizes: {small: {beam: 1}, large: {beam: 5}}\nratios: [0.5, 0.9]\nseed: 1\n",
    "seqkd/__init__.py": "",
    "seqkd/errors.py": "",
    "seqkd/corpus.py": "from seqkd.errors import InputError\n",
    "seqkd/search.py": "def beam() -> None:\n    from seqkd import corpus\n",
    "stages/__init__.py": "",
    "stages/decode.py": "from seqkd import search\nfrom typing import TYPE_CHECKING\n"
    "if TYPE_CHECKING:\n    from seqkd import plots\n",
    "seqkd/plots.py": "",
    "dvc.yaml": """
stages:
  decode:
    foreach: ${sizes}
    do:
      cmd: seqkd decode --beam ${item.beam} --out data/${key}
      params: [seed, "sizes.${key}"]
      deps: [stages/decode.py, seqkd/search.py, seqkd/corpus.py, data/text.tsv]
      outs: ["data/${key}"]
  prune:
    matrix: {size: [small, large], ratio: "${ratios}"}
    cmd: seqkd decode --beam ${item.ratio} ${item.size}
    deps: [stages/decode.py, seqkd/search.py, seqkd/corpus.py]
    outs: ["pruned/${item.size}-${item.ratio}": {cache: false}]
""",
}


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    for name, text in TINY.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def test_the_check_reads_foreach_and_matrix_as_dvc_does(tiny: Path) -> None:
    found = instances(tiny)
    assert list(found) == [
        "decode@small", "decode@large",
        "prune@small-0.5", "prune@small-0.9", "prune@large-0.5", "prune@large-0.9",
    ]  # fmt: skip
    assert found["decode@large"]["cmd"] == "seqkd decode --beam 5 --out data/large"
    assert tracked(found["decode@small"]) == ["seed", "sizes.small"]
    assert paths(found["prune@large-0.9"]["outs"]) == {"pruned/large-0.9"}
    assert wrong_deps(tiny) == []


def test_the_check_says_what_to_add_and_what_to_remove(tiny: Path) -> None:
    (tiny / "seqkd/search.py").write_text("from seqkd import errors, plots\n")
    assert wrong_deps(tiny) == [
        "decode, deps: add seqkd/plots.py, remove seqkd/corpus.py",
        "prune, deps: add seqkd/plots.py, remove seqkd/corpus.py",
    ]
