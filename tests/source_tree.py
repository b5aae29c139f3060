"""The project's source as trees of syntax: what imports what, which settings a stage reads."""

import ast
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from seqkd.config import schema

ROOT = Path(__file__).resolve().parent.parent


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
    found = set(re.findall(r"\bparams(?:\(\))?\.(\w+)", ast.unparse(body))) & set(schema.Params.model_fields)
    for call in ast.walk(body):
        if isinstance(call, ast.Call) and "params" in {ast.unparse(argument) for argument in call.args}:
            room, _, called = ast.unparse(call.func).rpartition(".")
            file = f"seqkd/{room}.py" if room else path
            if file in trees and called != function:
                found |= sections(trees, file, called)
    return found


def uses(tree: ast.AST, library: str) -> bool:
    return any(name == library or name.startswith(f"{library}.") for name in imported(tree))
