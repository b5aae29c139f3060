"""The house's rules on imports: they go down only, in no circle, and each library has one home."""

import ast
import itertools
import re
from pathlib import Path

import pytest
import yaml
from source_tree import ROOT, closure, edges, modules, names, strings, uses

from seqkd.ops.cpu.gemm import BUILT_FROM

# From the top; a module imports from its own layer or a lower one. What is not named here is in the lowest.
LAYERS = (
    {"course", "sample", "forecast", "costs"},
    {"trainer", "translator", "lists", "stopwatch", "card"},
    {"pupil"},
    {"batches", "losses", "search", "checkpoint", "snapshot", "pruning", "teacher", "team", "likelihood"}
    | {"board", "graphed", "selection", "audit", "material"},
    {"vocab", "model", "recurrence", "pointwise", "cuda", "fused", "products", "hardware"} | set(BUILT_FROM),
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
