"""Are the outputs of two checkouts the same? Prints the checksums of both side by side, and what differs.

python -m benchmarks.outputs OLD NEW, each a checkout after its `make repro`
"""

import hashlib
import sys
from collections.abc import Iterator
from pathlib import Path

FOLDERS = ("data/corpus", "data/text", "data/vocab", "data/nbest", "models", "reports")
RENAMED = {"data/text/gold.tsv": "data/text/reference.tsv"}  # of version 0.1.0: now
MEASURED = ("speed.svg", "table2.csv", "table2.md", "index.html", "benchmarks.md")  # another one in every run


def outputs(checkout: Path) -> Iterator[tuple[str, str]]:
    """Yield the path and the first digits of the checksum of every output that a run repeats."""
    for path in sorted(path for folder in FOLDERS for path in (checkout / folder).rglob("*") if path.is_file()):
        name = path.relative_to(checkout).as_posix()
        if path.name not in MEASURED and path.name != ".gitignore":
            yield RENAMED.get(name, name), hashlib.md5(path.read_bytes()).hexdigest()[:12]


def main(old: str, new: str) -> int:
    """Print both lists; return how many outputs differ or are missing on one side."""
    before, after = dict(outputs(Path(old))), dict(outputs(Path(new)))
    different = [name for name in sorted(before | after) if before.get(name) != after.get(name)]
    for name in sorted(before | after):
        mark = "  differs" if name in different else ""
        print(f"{name:60} {before.get(name, '-'):12} {after.get(name, '-'):12}{mark}")
    print(f"{len(before | after) - len(different)} the same, {len(different)} not")
    return len(different)


if __name__ == "__main__":
    sys.exit(min(1, main(*sys.argv[1:])))
