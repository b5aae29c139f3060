"""Fingerprints of code and of files.

A code fingerprint covers a module and all that it imports, without comments and docstrings. It is part of the name
under which results of that code are kept: the state of an interrupted training, the n-best cache, compiled code.
"""

import ast
import hashlib
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent.parent
NEUTRAL = {"config", "planning", "utils"}  # packages that change no result; dvc.yaml does not name them either


def of(*modules: str, package: Path = PACKAGE) -> str:
    """Return 32 hexadecimal digits of these modules, such as seqkd.ops.matmul, and all that they import from seqkd.

    package: the folder of seqkd.
    """
    codes, pending = dict[str, str](), [*modules]
    while pending:
        name = pending.pop()
        if name not in codes:
            path = _path(name, package)
            assert path is not None, f"there is no module {name}"
            tree = ast.parse(path.read_text(encoding="utf-8"))
            pending += [each for each in _imported(tree) if _changes_results(each, package)]
            codes[name] = _code(tree)
    content = "\n".join(f"{name} {code}" for name, code in sorted(codes.items()))
    return hashlib.blake2b(content.encode(), digest_size=16).hexdigest()


def file_sha256(path: Path) -> str:
    """Return the SHA-256 checksum of a file's content, 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _changes_results(name: str, package: Path) -> bool:
    """Return whether a name is that of a module whose code can change a result."""
    top, _, rest = name.partition(".")
    return top == "seqkd" and bool(rest) and rest.split(".")[0] not in NEUTRAL and _path(name, package) is not None


def _path(name: str, package: Path) -> Path | None:
    """Return the file of a module or package of seqkd; None for any other name, such as that of a function."""
    path = package.joinpath(*name.split(".")[1:])
    return next((each for each in (path.with_suffix(".py"), path / "__init__.py") if each.is_file()), None)


def _imported(tree: ast.Module) -> Iterator[str]:
    """Yield the names that a module imports; for `from a import b` both a and a.b, as b may be a module."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _code(tree: ast.Module) -> str:
    """Return a syntax tree as text, without docstrings."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None:
            node.body = node.body[1:]
    return ast.dump(tree, annotate_fields=False)
