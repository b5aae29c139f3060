"""The house's rules on imports: they go down only, in no circle, and each library has one home."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from source_tree import ROOT, closure, edges, modules, names, package, strings, uses

# From the top. A module imports from its own package or from a lower layer; packages of one layer know nothing of
# each other. So training knows nothing of decoding, models nothing of training.
LAYERS = (
    {"stages", "cli", "api"},
    {"demo"},
    {"planning", "reporting", "export"},
    {"selection"},
    {"evaluation", "teachers"},
    {"training", "decoding", "corpora"},
    {"models"},
    {"ops"},
    {"data"},
    {"config"},
    {"utils"},
)
# Packages that may use torch.
TORCH = {"api", "demo", "export", "planning", "evaluation", "teachers", "training", "decoding", "models", "ops", "data"}
TORCHLESS_STAGES = {"validate", "preprocess", "vocab", "select", "score", "report", "show", "use", "grid"}

HOMES = {  # library: the files of seqkd/ that may import it; stages/ may import typer alone
    "dvc": set[str](),
    "typer": {"cli"},
    "sentencepiece": {"data/vocab", "export/onnx_example", "teachers/ctranslate2_teacher", "teachers/vocabulary"},
    "ctranslate2": {"teachers/ctranslate2_teacher"},
    "transformers": {"models/transformers_model"},
    "onnx": {"export/onnx_graph"},
    "onnxruntime": {"export/onnx_example", "export/onnx_folder", "export/onnx_graph"},
    "sacrebleu": {"evaluation/metrics", "evaluation/significance"},
    "pandas": {"reporting/tables", "reporting/table_text", "reporting/sentences"},
    "vl_convert": {"reporting/vega"},
    "jinja2": {"reporting/html_page"},
    "safetensors": {"models/checkpoint", "training/training_state"},
    "starlette": {"demo/server"},
    "uvicorn": {"demo/server"},
    "distributed": {"utils/cluster", "utils/cluster_worker", "utils/remote_command"},
    "dask": set[str](),
    "tqdm": {"utils/progress"},
    "lxml": {"corpora/tmx"},
    "numba": {
        "utils/jit",
        "ops/cpu/gemm",
        "ops/cpu/gemm_tiles",
        "ops/cpu/packing",
        "ops/cpu/tiles",
    },
    "psutil": {"planning/bounds", "planning/plan", "teachers/command", "utils/process_control"},
    "pydantic": {"config/records"},  # and where records are built on its Record
}
LOSSES = {"word_kd"}  # also the name of the loss of section 3.1


def room(path: str) -> str:
    """Return the package of a file, or the name of a file that stands in none."""
    return "stages" if path.startswith("stages/") else Path(package(path)).stem


def layer(path: str) -> int:
    """Return the layer of a file; the package's __main__ and __init__ are above all."""
    return next((number for number, rooms in enumerate(LAYERS) if room(path) in rooms), -1)


def test_imports_go_down_only() -> None:
    graph = edges(modules())
    up = [
        f"{path} imports {other}"
        for path in graph
        for other in graph[path]
        if room(other) != room(path) and layer(other) <= layer(path)
    ]
    assert not up


def test_imports_name_every_package_in_a_layer() -> None:
    rooms = {room(path) for path in modules() if path not in ("seqkd/__main__.py", "seqkd/__init__.py")}
    assert rooms == set().union(*LAYERS)


def test_imports_have_no_cycle() -> None:
    graph = edges(modules())
    cycles = [path for path in graph if any(path in closure(other, graph) for other in graph[path])]
    assert not cycles


def test_imports_of_a_stage_leave_other_stages_alone() -> None:
    graph = edges(modules())
    sideways = [
        f"{path} imports {other}"
        for path in graph
        for other in graph[path]
        if other.startswith("stages/") and not Path(other).stem.startswith("_")
    ]
    assert not sideways


def test_package_inits_import_nothing_when_they_are_loaded() -> None:
    for path, tree in modules().items():
        if Path(path).name == "__init__.py":
            loaded = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
            assert not [node for node in loaded if uses(ast.Module([node], []), "seqkd")], path


def test_torch_is_imported_only_by_what_computes_with_tensors() -> None:
    trees = modules()
    graph = edges(trees)
    own = {path for path, tree in trees.items() if uses(tree, "torch") or uses(tree, "safetensors.torch")}
    assert {room(path) for path in own} <= TORCH
    free = {f"stages/{name}.py" for name in TORCHLESS_STAGES}
    free |= {path for path in trees if room(path) not in TORCH | {"stages"}}
    reached = {path: sorted(closure(path, graph) & own) for path in sorted(free & set(trees))}
    assert not {path: others for path, others in reached.items() if others}


@pytest.mark.parametrize("library", sorted(HOMES))
def test_library_is_imported_in_one_home(library: str) -> None:
    for path, tree in modules().items():
        if library == "pydantic" and uses(tree, "seqkd.config"):
            continue
        home = path.removeprefix("seqkd/").removesuffix(".py")
        allowed = home in HOMES[library] or (library == "typer" and home.startswith("stages/"))
        assert allowed or not uses(tree, library), f"{path} imports {library}; its home: {sorted(HOMES[library])}"


@pytest.mark.slow
def test_dask_is_loaded_only_where_a_cluster_is_asked_for() -> None:
    work = "import seqkd.selection.select, seqkd.evaluation.outputs, seqkd.decoding.corpus_decoder, seqkd.training.run"
    pool = "from seqkd.utils import pool; assert [*pool.map_ordered(abs, [-1, 2], processes=2)] == [1, 2]"
    told = "import sys; print([name for name in sys.modules if name.partition('.')[0] in ('dask', 'distributed')])"
    command = [sys.executable, "-c", f"{work}; {pool}; {told}"]
    assert subprocess.check_output(command, text=True, cwd=ROOT) == "[]\n"


def test_method_names_stand_nowhere_in_the_source() -> None:
    """A method is a row of params.yaml; the roles teacher and baseline are no methods."""
    values = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    rows = {row for row in (*values["distill"], *values["finetune"]) if "_" in row or "-" in row}  # not a common word
    for path, tree in modules().items():
        words = {word for text in strings(tree) for word in re.findall(r"[\w-]+", text)}
        assert not words & rows, f"{path} names a method in a string: {sorted(words & rows)}"
        assert not (set(names(tree)) & rows) - LOSSES, f"{path} names a method: {sorted(set(names(tree)) & rows)}"


def test_lines_of_the_library_and_the_stages_are_at_most_120_columns() -> None:
    long = [
        f"{path}:{number}"
        for path in modules()
        for number, line in enumerate((ROOT / path).read_text(encoding="utf-8").splitlines(), start=1)
        if len(line) > 120
    ]
    assert not long
