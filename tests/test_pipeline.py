"""dvc.yaml against the source: what a stage's result depends on is computed from its imports."""

import re
from pathlib import Path

import pytest
import yaml
from dvc.exceptions import DvcException
from dvc.utils.hydra import apply_overrides
from dvc_file import instances, leaves, lookup, paths, stage_file, tracked
from source_tree import ROOT, closure, edges, modules, package, sections

from seqkd.config import schema
from seqkd.config.teachers import CommandTeacher, CTranslate2Teacher, FilesTeacher, TransformersTeacher
from seqkd.utils import fingerprint


def wrong_deps(root: Path = ROOT) -> list[str]:
    """Return one line for each template whose code in deps is not what its imports say: what to add, what to remove.

    A stage depends on its own file and on the packages of all that it imports. Packages that change no result, those
    of fingerprint.NEUTRAL, are named nowhere, nor is what only they import; nor are the files beside them, such as the
    command line.
    """
    graph = {
        path: others if _can_change_a_result(path) else set[str]() for path, others in edges(modules(root)).items()
    }
    messages: dict[str, str] = {}
    for name, spec in instances(root).items():
        file = stage_file(spec)
        if file not in graph:
            messages[file] = f"{name}: there is no {file}"
            continue
        needed = {package(path) for path in closure(file, graph) if _can_change_a_result(path)}
        named = {path for path in paths(spec.get("deps", ())) if path.startswith(("seqkd", "stages"))}
        mends = [f"add {path}" for path in sorted(needed - named)]
        mends += [f"remove {path}" for path in sorted(named - needed)]
        if mends:
            template = name.partition("@")[0]
            messages[template] = f"{template}, deps: {', '.join(mends)}"
    return list(messages.values())


def _can_change_a_result(path: str) -> bool:
    return path.startswith("stages/") or (path.count("/") > 1 and Path(path).parts[1] not in fingerprint.NEUTRAL)


def test_deps_of_a_stage_are_its_file_and_the_packages_that_can_change_its_result() -> None:
    wrong = wrong_deps()
    assert not wrong, "dvc.yaml:\n" + "\n".join(wrong)


def test_params_that_a_stage_lists_exist() -> None:
    values = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    for name, spec in instances().items():
        for key in tracked(spec):
            try:
                lookup(values, key)
            except (KeyError, TypeError, IndexError):
                pytest.fail(f"dvc.yaml, {name}: params.yaml has no {key}")


def test_params_that_a_stage_reads_are_tracked_by_dvc() -> None:
    """A value that is in neither cmd, deps nor params can change without a rerun."""
    trees = modules()
    for name, spec in instances().items():
        listed = {key.split(".")[0] for key in tracked(spec)}
        missing = sections(trees, stage_file(spec), "main") - listed
        if "params.yaml" not in spec["deps"]:  # validate depends on the whole file
            assert not missing, f"dvc.yaml, {name}: add to params what the stage reads: {sorted(missing)}"


def test_params_named_size_are_listed_by_themselves_because_dvcs_run_cache_ignores_them_in_a_section() -> None:
    """DVC drops every key named size or nfiles, wherever it stands, from the key under which it keeps old runs: with
    only `student` listed, a student of another size would get the outs of the last one."""
    values = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    for name, spec in instances().items():
        listed = tracked(spec)
        hidden = [leaf for key in listed for leaf in leaves(lookup(values, key), key) if leaf != key]
        missing = {leaf for leaf in hidden if leaf.endswith((".size", ".nfiles"))} - set(listed)
        assert not missing, f"dvc.yaml, {name}: add to params, beside its section: {sorted(missing)}"


def test_outs_of_the_pipeline_belong_to_one_stage_each() -> None:
    seen: dict[str, str] = {}
    for name, spec in instances().items():
        outs = [paths(spec.get(kind, ())) for kind in ("outs", "metrics", "plots")]
        for path in set().union(*outs):
            assert path not in seen, f"{name} and {seen[path]} both write {path}"
            seen[path] = name


def test_defaults_of_the_settings_are_pinned_because_dvc_sees_only_params_yaml() -> None:
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
            FilesTeacher,
            CommandTeacher,
            CTranslate2Teacher,
            TransformersTeacher,
            schema.Params,
        )
        for name, field in record.model_fields.items()
        if not field.is_required()
    }
    assert found == DEFAULTS


DEFAULTS: dict[str, object] = {
    "VocabSettings.max_sentences": 200_000,
    "DataSettings.max_pairs": 0,
    "DataSettings.seed": None,
    "VocabSettings.teacher": None,
    "VocabSettings.character_coverage": "auto",
    "VocabSettings.byte_fallback": True,
    "NetworkSettings.init_range": 0.1,
    "NetworkSettings.embedding_init_range": 0.1,
    "OptimizerSettings.beta2": 0.999,
    "OptimizerSettings.max_grad_norm": 5.0,
    "OptimizerSettings.warmup_steps": 100,
    "OptimizerSettings.start_decay_epoch": 9,
    "OptimizerSettings.patience": 0,
    "OptimizerSettings.keep_checkpoint": "last",
    "OptimizerSettings.loss_normalization": "tokens",
    "OptimizerSettings.shards": 2,
    "DataSettings.monolingual": None,
    "DecodeSettings.beam": None,
    "DecodeSettings.join": None,
    "DecodeSettings.length_penalty": 0.0,
    "DecodeSettings.monolingual": True,
    "DecodeSettings.teacher": None,
    "FilesTeacher.sources": None,
    "FilesTeacher.test": None,
    "CTranslate2Teacher.source_code": None,
    "CTranslate2Teacher.target_code": None,
    "TransformersTeacher.source_code": None,
    "TransformersTeacher.target_code": None,
    "DistillSettings.epochs": None,
    "DistillSettings.student_size": None,
    "FinetuneSettings.epochs": None,
    "NetworkSettings.members": 1,
    "SelectSettings.drop": None,
    "SelectSettings.times": None,
    "SelectSettings.smoothing": "add-k",
    "SelectSettings.smoothing_value": 1.0,
    "EvaluateSettings.length_penalty": 0.0,
    "DistillSettings.top_k": 0,
    "FinetuneSettings.top_k": 0,
}


def test_path_with_an_umlaut_reaches_the_settings_as_the_readme_shows_it(tmp_path: Path) -> None:
    settings = tmp_path / "params.yaml"
    settings.write_text("data: {corpus: a}\n")
    shown = re.findall(r"-S '(data\.corpus=[^']*)'", (ROOT / "README.md").read_text(encoding="utf-8"))
    assert len(shown) == 1
    with pytest.raises(DvcException):
        apply_overrides(settings, [shown[0].replace('"', "")])
    for path in ("/path/to/Gespräche (neu)", "/it's", "/a, b = {c}", "/ 書 #1"):
        apply_overrides(settings, [shown[0].replace("/path/to/Gespräche (neu)", path)])
        assert yaml.safe_load(settings.read_text(encoding="utf-8"))["data"]["corpus"] == path


# The check itself, on a pipeline small enough to see through.

TINY = {
    "params.yaml": "sizes: {small: {beam: 1}, large: {beam: 5}}\nratios: [0.5, 0.9]\nseed: 1\n",
    "seqkd/__init__.py": "",
    "seqkd/utils/errors.py": "",
    "seqkd/data/bitext.py": "from seqkd.utils.errors import InputError\n",
    "seqkd/decoding/search.py": "def beam() -> None:\n    from seqkd.data import bitext\n",
    "stages/decode.py": "from seqkd.decoding import search\nfrom typing import TYPE_CHECKING\n"
    "if TYPE_CHECKING:\n    from seqkd.reporting import plots\n",
    "seqkd/reporting/plots.py": "",
    "dvc.yaml": """
stages:
  decode:
    foreach: ${sizes}
    do:
      cmd: python -m seqkd decode --beam ${item.beam} --out data/${key}
      params: [seed, "sizes.${key}"]
      deps: [stages/decode.py, seqkd/data, seqkd/decoding, data/text.tsv]
      outs: ["data/${key}"]
  prune:
    matrix: {size: [small, large], ratio: "${ratios}"}
    cmd: python -m seqkd decode --beam ${item.ratio} ${item.size}
    deps: [stages/decode.py, seqkd/data, seqkd/decoding]
    outs: ["pruned/${item.size}-${item.ratio}": {cache: false}]
""",
}


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    for name, text in TINY.items():
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def test_pipeline_check_reads_foreach_and_matrix_as_dvc_does(tiny: Path) -> None:
    found = instances(tiny)
    assert list(found) == [
        "decode@small", "decode@large",
        "prune@small-0.5", "prune@small-0.9", "prune@large-0.5", "prune@large-0.9",
    ]  # fmt: skip
    assert found["decode@large"]["cmd"] == "python -m seqkd decode --beam 5 --out data/large"
    assert tracked(found["decode@small"]) == ["seed", "sizes.small"]
    assert paths(found["prune@large-0.9"]["outs"]) == {"pruned/large-0.9"}
    assert wrong_deps(tiny) == []


def test_pipeline_check_says_what_to_add_and_what_to_remove(tiny: Path) -> None:
    (tiny / "seqkd/decoding/search.py").write_text(
        "from seqkd.utils import errors\nfrom seqkd.reporting import plots\n"
    )
    assert wrong_deps(tiny) == [
        "decode, deps: add seqkd/reporting, remove seqkd/data",
        "prune, deps: add seqkd/reporting, remove seqkd/data",
    ]


def test_dvc_file_has_at_most_220_lines() -> None:
    assert len((ROOT / "dvc.yaml").read_text(encoding="utf-8").splitlines()) <= 220
