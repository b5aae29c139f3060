"""dvc.yaml against the source: what a stage's result depends on is computed from its imports."""

import ast
import itertools
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from seqkd import config
from seqkd.tiles import BUILT_FROM

ROOT = Path(__file__).resolve().parent.parent

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

# From the top; a module imports from its own layer or a lower one. What is not named here is in the lowest.
LAYERS = (
    {"course", "sample", "forecast", "costs"},
    {"trainer", "translator", "lists", "stopwatch", "card"},
    {"pupil"},
    {"batches", "losses", "search", "checkpoint", "snapshot", "pruning", "teacher", "team", "likelihood"}
    | {"selection", "audit", "material"},
    {"vocab", "model", "recurrence", "fused", "products", "hardware"} | set(BUILT_FROM),
)
# Only these need torch; a stage needs it only through them.
TORCH = {*itertools.chain(*LAYERS)} - {"selection", "audit", "material", "vocab", *BUILT_FROM}
TORCHLESS_STAGES = {"validate", "preprocess", "vocab", "select", "report", "show"}

HOMES = {  # library: the modules of seqkd/ that may import it; stages/ may import typer alone
    "dvc": set[str](),
    "typer": {"__main__"},
    "sentencepiece": {"vocab"},
    "sacrebleu": {"scores"},
    "pandas": {"table"},
    "matplotlib": {"plots", "labels"},
    "safetensors": {"checkpoint", "snapshot"},
    "tqdm": {"progress"},
    "numba": {"kernels", "ngrams", "tiles"},
    "psutil": {"budget", "lifetime"},
    "pydantic": {"config"},  # and where a recipe's records are built on config.Record
}
LOSSES = {"word_kd"}  # also the name of the loss of section 3.1


def modules(root: Path = ROOT) -> dict[str, ast.Module]:
    """Every source file of the library and the stages: 'seqkd/corpus.py' -> its tree."""
    paths = sorted([*root.glob("seqkd/*.py"), *root.glob("stages/*.py")])
    return {path.relative_to(root).as_posix(): ast.parse(path.read_text(encoding="utf-8")) for path in paths}


def imported(tree: ast.AST) -> Iterator[str]:
    """The dotted names a file imports, at its top or inside a function; `from a import b` as a.b.

    Not what stands under `if TYPE_CHECKING`: it is never run.
    """
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "the project imports by full names"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        yield from imported(node)


def edges(trees: Mapping[str, ast.Module]) -> dict[str, set[str]]:
    """file -> the project's files it imports itself."""
    found: dict[str, set[str]] = {}
    for path, tree in trees.items():
        parts = [name.split(".") for name in imported(tree)]
        found[path] = {f"{name[0]}/{name[1]}.py" for name in parts if len(name) > 1} & set(trees)
    return found


def closure(start: str, graph: Mapping[str, set[str]]) -> set[str]:
    """start, and every file its imports lead to."""
    seen, left = {start}, [start]
    while left:
        new = graph[left.pop()] - seen
        seen |= new
        left += new
    return seen


def strings(tree: ast.AST) -> Iterator[str]:
    """Every string a file computes with: not its docstrings."""
    alone = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in alone:
            yield node.value


def names(tree: ast.AST) -> Iterator[str]:
    """Every name of a variable, attribute, function or parameter in a file."""
    for node in ast.walk(tree):
        for field in ("id", "attr", "name", "arg"):
            if isinstance(name := getattr(node, field, None), str):
                yield name


def sections(trees: Mapping[str, ast.Module], path: str, function: str) -> set[str]:
    """The sections of params.yaml that a function reads, itself or by handing `params` on to another."""
    body = next((node for node in trees[path].body if getattr(node, "name", None) == function), None)
    if body is None:
        return set()
    found = set(re.findall(r"\bparams(?:\(\))?\.(\w+)", ast.unparse(body))) & set(config.Params.model_fields)
    for call in ast.walk(body):
        if isinstance(call, ast.Call) and "params" in {ast.unparse(argument) for argument in call.args}:
            room, _, called = ast.unparse(call.func).rpartition(".")
            file = f"seqkd/{room}.py" if room else path
            if file in trees and called != function:
                found |= sections(trees, file, called)
    return found


# dvc.yaml in plain Python


def leaves(value: Any, key: str) -> Iterator[str]:
    """The dotted keys of every single value under a key."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from leaves(inner, f"{key}.{name}")
    else:
        yield key


def lookup(values: Any, key: str) -> Any:
    """The value at a dotted key; KeyError for none."""
    for part in key.split("."):
        values = values[int(part) if isinstance(values, list) else part]
    return values


def filled(template: Any, values: Mapping[str, Any]) -> Any:
    """The template with every ${...} replaced by its value."""
    if isinstance(template, dict):
        return {filled(key, values): filled(value, values) for key, value in template.items()}
    if isinstance(template, list):
        return [filled(value, values) for value in template]
    if not isinstance(template, str):
        return template
    if whole := re.fullmatch(r"\$\{([^}]+)\}", template):
        return lookup(values, whole[1].strip())
    return re.sub(r"\$\{([^}]+)\}", lambda found: str(lookup(values, found[1].strip())), template)


def instances(root: Path = ROOT) -> dict[str, dict[str, Any]]:
    """'distill@word_kd' -> its cmd, deps, params and so on, with foreach and matrix written out."""
    whole = yaml.safe_load((root / "dvc.yaml").read_text(encoding="utf-8"))
    values = yaml.safe_load((root / "params.yaml").read_text(encoding="utf-8"))
    for extra in whole.get("vars", []):
        values |= extra if isinstance(extra, dict) else yaml.safe_load((root / extra).read_text(encoding="utf-8"))
    found: dict[str, dict[str, Any]] = {}
    for name, template in whole["stages"].items():
        if "foreach" in template:
            over = filled(template["foreach"], values)
            rows = over.items() if isinstance(over, dict) else ((item, item) for item in over)
            for key, item in rows:
                found[f"{name}@{key}"] = filled(template["do"], {**values, "key": key, "item": item})
        elif "matrix" in template:
            axes = filled(template["matrix"], values)
            rest = {key: value for key, value in template.items() if key != "matrix"}
            for cell in itertools.product(*axes.values()):
                item = dict(zip(axes, cell, strict=True))
                found[f"{name}@{'-'.join(map(str, cell))}"] = filled(rest, {**values, "item": item, "key": item})
        else:
            found[name] = filled(template, values)
    return found


def stage_file(spec: Mapping[str, Any]) -> str:
    """stages/<stage>.py of `seqkd <stage> ...`."""
    command = spec["cmd"] if isinstance(spec["cmd"], str) else " && ".join(spec["cmd"])
    found = re.findall(r"(?:^|&&|;|\s)seqkd\s+([\w-]+)", command)
    assert len(found) == 1, f"a stage's cmd is one `seqkd <stage> ...`, but here it is: {command}"
    return f"stages/{found[0].replace('-', '_')}.py"


def paths(entries: Iterable[Any]) -> set[str]:
    """The paths of deps or outs, which may stand with options."""
    return {entry if isinstance(entry, str) else next(iter(entry)) for entry in entries or ()}


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


def tracked(spec: Mapping[str, Any]) -> list[str]:
    """The keys of params.yaml that a stage lists."""
    keys: list[str] = []
    for entry in spec.get("params", ()):
        if isinstance(entry, str):
            keys.append(entry)
        else:
            keys += entry.get("params.yaml") or []
    return keys


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
    records = (config.Optim, config.Search, config.Select, config.Evaluate, config.Network, config.Prune)
    found = {
        f"{record.__name__}.{name}": field.default
        for record in (*records, config.Data, config.Vocab, config.Distill, config.Finetune, config.Params)
        for name, field in record.model_fields.items()
        if not field.is_required()
    }
    assert found == DEFAULTS


DEFAULTS: dict[str, object] = {
    "Network.spread": 0.1,
    "Network.embedding_spread": 0.1,
    "Optim.beta2": 0.999,
    "Optim.clip": 5.0,
    "Optim.warmup": 100,
    "Optim.halve_from": 9,
    "Optim.patience": 0,
    "Optim.keep": "last",
    "Optim.loss_per": "word",
    "Optim.shares": 2,
    "Search.normalise": 0.0,
    "Select.smoothing": "add-k",
    "Select.smoothing_value": 1.0,
    "Evaluate.normalise": 0.0,
    "Distill.top_k": 0,
    "Finetune.top_k": 0,
}


def layer(path: str) -> int:
    """0 for a stage, then downwards."""
    if path.startswith("stages/") or path == "seqkd/__main__.py":
        return 0
    return next((number for number, named in enumerate(LAYERS, 1) if Path(path).stem in named), len(LAYERS) + 1)


def test_imports_go_down_only() -> None:
    graph = edges(modules())
    up = [f"{path} imports {other}" for path in graph for other in graph[path] if layer(other) < layer(path)]
    sideways = [f"{path} imports {other}" for path in graph for other in graph[path] if other.startswith("stages/")]
    assert not up + sideways


def test_imports_have_no_cycle() -> None:
    graph = edges(modules())
    cycles = [path for path in graph if any(path in closure(other, graph) for other in graph[path])]
    assert not cycles


def test_a_package_holds_nothing_but_its_name() -> None:
    trees = modules()
    for path in ("seqkd/__init__.py", "stages/__init__.py"):
        assert not edges(trees)[path], f"{path} imports, so every stage would depend on it"
        assert all(isinstance(node, ast.Expr | ast.Assign) for node in trees[path].body)


def test_what_needs_no_torch_does_not_import_it() -> None:
    trees = modules()
    graph = edges(trees)
    own = {path for path, tree in trees.items() if uses(tree, "torch") or uses(tree, "safetensors.torch")}
    stray = {path for path in own if path.startswith("seqkd/") and Path(path).stem not in TORCH}
    assert not stray, "only what computes with tensors may know torch"
    free = {f"stages/{name}.py" for name in TORCHLESS_STAGES} | {
        path for path in trees if path.startswith("seqkd/") and Path(path).stem not in TORCH
    }
    reached = {path: sorted(closure(path, graph) & own) for path in sorted(free & set(trees))}
    assert not {path: others for path, others in reached.items() if others}


def uses(tree: ast.AST, library: str) -> bool:
    return any(name == library or name.startswith(f"{library}.") for name in imported(tree))


@pytest.mark.parametrize("library", sorted(HOMES))
def test_each_library_has_one_home(library: str) -> None:
    allowed = HOMES[library] | ({"stages"} if library == "typer" else set())
    for path, tree in modules().items():
        home = "stages" if path.startswith("stages/") else Path(path).stem
        if library == "pydantic" and uses(tree, "seqkd.config"):
            continue
        assert home in allowed or not uses(tree, library), f"{path} imports {library}; its home: {sorted(allowed)}"


def test_no_methods_name_stands_in_the_source() -> None:
    """A method is a row of params.yaml; the roles teacher and baseline are no methods."""
    values = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    rows = {row for row in (*values["distill"], *values["finetune"]) if "_" in row or "-" in row}  # not a common word
    for path, tree in modules().items():
        words = {word for text in strings(tree) for word in re.findall(r"[\w-]+", text)}
        assert not words & rows, f"{path} names a method in a string: {sorted(words & rows)}"
        assert not (set(names(tree)) & rows) - LOSSES, f"{path} names a method: {sorted(set(names(tree)) & rows)}"


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
