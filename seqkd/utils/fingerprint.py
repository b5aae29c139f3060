"""Code fingerprints: what a module and all that it imports say, without comments and docstrings.

Work that was begun, cached or compiled by other code is known by it: the state of an interrupted training, the n-best
cache, numba's compiled code.
"""

import ast
import hashlib
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent.parent
NEUTRAL = {"config", "planning", "utils"}  # packages that change no result, so dvc.yaml does not name them either


def of(*modules: str, package: Path = PACKAGE) -> str:
    """32 hexadecimal digits of these modules (such as seqkd.ops.matmul) and of all that they import from seqkd.

    package: the folder of seqkd.
    """
    codes, left = dict[str, str](), [*modules]
    while left:
        name = left.pop()
        if name not in codes:
            path = _path(name, package)
            assert path is not None, f"there is no module {name}"
            tree = ast.parse(path.read_text(encoding="utf-8"))
            left += [each for each in _imported(tree) if _counts(each, package)]
            codes[name] = _code(tree)
    content = "\n".join(f"{name} {code}" for name, code in sorted(codes.items()))
    return hashlib.blake2b(content.encode(), digest_size=16).hexdigest()


def _counts(name: str, package: Path) -> bool:
    """Whether a name is that of a module whose code can change a result."""
    top, _, rest = name.partition(".")
    return top == "seqkd" and bool(rest) and rest.split(".")[0] not in NEUTRAL and _path(name, package) is not None


def _path(name: str, package: Path) -> Path | None:
    """The file of a module or package of seqkd; None for any other name, such as that of a function."""
    path = package.joinpath(*name.split(".")[1:])
    return next((each for each in (path.with_suffix(".py"), path / "__init__.py") if each.is_file()), None)


def _imported(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _code(tree: ast.Module) -> str:
    """The syntax tree as text, without docstrings."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None:
            node.body = node.body[1:]
    return ast.dump(tree, annotate_fields=False)
