import hashlib
from pathlib import Path

import pytest

from seqkd.utils import fingerprint


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A package called seqkd: ops.gemm imports ops.tiles, data.bitext, utils.progress and a library."""
    sources = {
        "__init__": "",
        "ops/__init__": "",
        "ops/gemm": (
            "import json\nfrom seqkd.ops import tiles\nfrom seqkd.data.bitext import read\n"
            "from seqkd.utils import progress\ndef times():\n    return tiles.SIZE\n"
        ),
        "ops/tiles": '"""Tiles."""\nSIZE = 4  # rows\n',
        "ops/other": "X = 1\n",
        "data/__init__": "",
        "data/bitext": 'def read():\n    """Read."""\n    return 1\n',
        "utils/__init__": "",
        "utils/progress": "Y = 1\n",
    }
    for name, source in sources.items():
        path = tmp_path / f"seqkd/{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source)
    return tmp_path / "seqkd"


def _edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("ops/gemm", "tiles.SIZE", "tiles.SIZE + 1"),
        ("ops/tiles", "SIZE = 4", "SIZE = 8"),
        ("data/bitext", "return 1", "return 2"),
    ],
)
def test_fingerprint_differs_after_an_edit_of_a_module_or_of_what_it_imports(
    package: Path, name: str, old: str, new: str
) -> None:
    before = fingerprint.of("seqkd.ops.gemm", package=package)
    _edit(package / f"{name}.py", old, new)
    assert fingerprint.of("seqkd.ops.gemm", package=package) != before


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("ops/tiles", "# rows", "# rows of a tile"),
        ("ops/tiles", '"""Tiles."""', '"""Tiles of a matrix."""'),
        ("data/bitext", '    """Read."""\n', ""),
        ("ops/other", "X = 1", "X = 2"),
        ("utils/progress", "Y = 1", "Y = 2"),
    ],
)
def test_fingerprint_is_the_same_after_an_edit_that_changes_no_result(
    package: Path, name: str, old: str, new: str
) -> None:
    before = fingerprint.of("seqkd.ops.gemm", package=package)
    _edit(package / f"{name}.py", old, new)
    assert fingerprint.of("seqkd.ops.gemm", package=package) == before


def test_fingerprint_of_several_modules_does_not_depend_on_their_order(package: Path) -> None:
    names = ["seqkd.ops.other", "seqkd.data.bitext"]
    assert fingerprint.of(*names, package=package) == fingerprint.of(*reversed(names), package=package)
    assert fingerprint.of(*names, package=package) != fingerprint.of(names[0], package=package)


def test_fingerprint_of_a_module_that_does_not_exist_is_an_error(package: Path) -> None:
    with pytest.raises(AssertionError, match=r"no module seqkd\.ops\.none"):
        fingerprint.of("seqkd.ops.none", package=package)


def test_file_sha256_is_the_checksum_of_the_content(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    assert fingerprint.file_sha256(tmp_path / "a") == hashlib.sha256(b"abc").hexdigest()
    assert fingerprint.file_sha256(tmp_path / "a").startswith("ba7816bf8f01cfea")
