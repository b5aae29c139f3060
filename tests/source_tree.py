"""The project's source as syntax trees: what imports what, which settings a stage reads."""

import ast
import re
import shutil
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from seqkd.config import overlay, schema

ROOT = Path(__file__).resolve().parent.parent


def settings(config: str) -> str:
    """Return the text of params.yaml with the settings of a file in configs/."""
    with TemporaryDirectory() as folder:
        params = Path(shutil.copy(ROOT / "params.yaml", folder))
        overlay.apply(ROOT / "configs" / f"{config}.yaml", params=params)
        return params.read_text(encoding="utf-8")


@cache
def modules(root: Path = ROOT) -> dict[str, ast.Module]:
    """Return the tree of every source file of the library and the stages: 'seqkd/data/vocab.py' -> its tree."""
    paths = sorted([*root.glob("seqkd/**/*.py"), *root.glob("stages/*.py")])
    return {path.relative_to(root).as_posix(): ast.parse(path.read_text(encoding="utf-8")) for path in paths}


def package(path: str) -> str:
    """Return the folder that dvc.yaml would name for a file: 'seqkd/ops/cpu/gemm.py' -> 'seqkd/ops'."""
    return "/".join(Path(path).parts[:2]) if path.count("/") > 1 else path


def imported(tree: ast.AST) -> Iterator[str]:
    """Yield the dotted names a file imports, at its top or inside a function; `from a import b` as a and a.b.

    Leave out what stands under `if TYPE_CHECKING`: it is never run.
    """
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "the project imports by full names"
            yield f"{node.module}"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        yield from imported(node)


def edges(trees: Mapping[str, ast.Module]) -> dict[str, set[str]]:
    """Return the project's files that each file imports itself; not a package's own __init__, which is empty."""
    return {
        path: {f"{name.replace('.', '/')}.py" for name in imported(tree)} & set(trees) for path, tree in trees.items()
    }


def closure(start: str, graph: Mapping[str, set[str]]) -> set[str]:
    """Return start and every file its imports lead to."""
    seen, left = {start}, [start]
    while left:
        new = graph[left.pop()] - seen
        seen |= new
        left += new
    return seen


def strings(tree: ast.AST) -> Iterator[str]:
    """Yield every string a file computes with: not its docstrings."""
    alone = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in alone:
            yield node.value


def names(tree: ast.AST) -> Iterator[str]:
    """Yield every name of a variable, attribute, function or parameter in a file."""
    for node in ast.walk(tree):
        for field in ("id", "attr", "name", "arg"):
            if isinstance(name := getattr(node, field, None), str):
                yield name


def sections(trees: Mapping[str, ast.Module], path: str, function: str) -> set[str]:
    """Return the sections of params.yaml that a function reads, itself or by handing `params` on to another."""
    body = next((node for node in trees[path].body if getattr(node, "name", None) == function), None)
    if body is None:
        return set()
    read = set(re.findall(r"\bparams(?:\(\))?\.(\w+)", ast.unparse(body))) & set(schema.Params.model_fields)
    for call in ast.walk(body):
        if isinstance(call, ast.Call) and "params" in {ast.unparse(argument) for argument in call.args}:
            module, _, called = ast.unparse(call.func).rpartition(".")
            for file in _files_named(trees, module) if module else [path]:
                if (file, called) != (path, function):
                    read |= sections(trees, file, called)
    return read


def _files_named(trees: Mapping[str, ast.Module], module: str) -> list[str]:
    return [path for path in trees if Path(path).stem == module]


def uses(tree: ast.AST, library: str) -> bool:
    """Return whether a file imports a library."""
    return any(name == library or name.startswith(f"{library}.") for name in imported(tree))
