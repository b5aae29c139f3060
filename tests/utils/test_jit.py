import os
import shutil
import subprocess
import sys
from pathlib import Path

import numba
import pytest
from source_tree import ROOT

from seqkd.utils import jit

INNER = """from seqkd.utils import jit

@jit.compiler(__name__)
def inner(x):
    return x + 1
"""
OUTER = """from seqkd.ops.inner import inner
from seqkd.utils import jit

@jit.compiler(__name__)
def outer(x):
    return 2 * inner(x)
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A package with a compiled function that calls one of another module."""
    for name in ("seqkd/__init__.py", "seqkd/ops/__init__.py"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    shutil.copytree(ROOT / "seqkd/utils", tmp_path / "seqkd/utils", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "seqkd/ops/inner.py").write_text(INNER)
    (tmp_path / "seqkd/ops/outer.py").write_text(OUTER)
    return tmp_path


def _run(checkout: Path, **variables: str) -> tuple[str, Path]:
    """What outer(3) returns in a process of its own, and the folder of its compiled code."""
    script = "from seqkd.ops.outer import outer; print(outer(3), outer._cache.cache_path)"
    environment = {name: value for name, value in os.environ.items() if name != "NUMBA_CACHE_DIR"}
    environment |= {"PYTHONPATH": str(checkout), **variables}
    output = subprocess.check_output([sys.executable, "-c", script], env=environment, cwd=checkout, text=True)
    result, folder = output.split()
    return result, Path(folder)


@pytest.mark.slow
@pytest.mark.parametrize("given", [False, True])
def test_jit_compiles_anew_after_an_edit_of_an_imported_module(given: bool, checkout: Path) -> None:
    variables = {"NUMBA_CACHE_DIR": str(checkout / "given")} if given else {}
    first, folder = _run(checkout, **variables)
    assert (first, list(folder.glob("outer.*.nbc")) != []) == ("8", True)
    assert folder.is_relative_to(checkout / "given") == given
    assert _run(checkout, **variables) == (first, folder)
    (checkout / "seqkd/ops/inner.py").write_text(INNER.replace("x + 1", "x + 2"))
    second, other = _run(checkout, **variables)
    assert second == "10"
    assert other.parent != folder.parent


@pytest.mark.slow
def test_jit_keeps_compiled_code_when_only_a_comment_changes(checkout: Path) -> None:
    _, folder = _run(checkout)
    (checkout / "seqkd/ops/inner.py").write_text(f"{INNER}# a comment\n")
    assert _run(checkout) == ("8", folder)


def test_jit_leaves_the_cache_folder_of_other_numba_code_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path))
    compiled = jit.compiler("seqkd.ops.cpu.gemm")(_identity)
    assert not compiled._cache.cache_path.startswith(str(tmp_path))
    with pytest.raises(TypeError):
        jit.compiler("seqkd.ops.cpu.gemm")("no function")
    assert str(tmp_path) == numba.config.CACHE_DIR  # type: ignore[attr-defined]


def _identity(x: object) -> object:
    return x
