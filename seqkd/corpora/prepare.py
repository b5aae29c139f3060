"""data.corpus of params.yaml made into numbered train, dev and test pairs, with an account of where they come from."""

import itertools
from pathlib import Path
from typing import Literal, NamedTuple

from pydantic import ConfigDict

from seqkd.config import schema
from seqkd.corpora import local, mtdata, synthetic, wheels
from seqkd.corpora.cleaning import Cleaned
from seqkd.data.bitext import Pair
from seqkd.utils.errors import InputError

RECIPES = (".yaml", ".yml")


class RecipeKind(schema.Record):
    model_config = ConfigDict(extra="ignore")
    kind: Literal["wheels", "grammar", "mtdata"]


class Prepared(NamedTuple):
    train: list[Pair]
    dev: list[Pair]
    test: list[Pair]
    about: dict[str, object]  # provenance, and counts of every drop by cause


def prepare(data: schema.DataSettings, *, seed: int, downloads: Path) -> Prepared:
    """The corpus that data.corpus names: a recipe (*.yaml), a folder or one tab-separated file.

    ids count up through train, dev and test. Raises InputError for what cannot be read or fetched.
    """
    parts, drops, origin = _cleaned(data, seed=seed, downloads=downloads)
    ids = itertools.count()
    train, dev, test = ([Pair(next(ids), line.source, line.target) for line in lines] for lines in parts)
    about: dict[str, object] = {
        "corpus": data.corpus,
        "source": data.source,
        "target": data.target,
        "seed": seed,
        "origin": origin,
        "dropped": dict(drops),
        "pairs": {name: len(lines) for name, lines in parts._asdict().items()},
    }
    return Prepared(train, dev, test, about)


def _cleaned(data: schema.DataSettings, *, seed: int, downloads: Path) -> Cleaned:
    path = Path(data.corpus)
    if path.is_dir():
        return local.prepare(path, source=data.source, target=data.target, seed=seed)
    if not path.exists():
        recipes = ", ".join(sorted(str(it) for it in Path("corpora").glob("*") if it.suffix in RECIPES))
        others = f"one of {recipes}" if recipes else "a recipe (*.yaml)"
        raise InputError(f"data.corpus: {path} does not exist; name a folder, a tab-separated file, or {others}.")
    if path.suffix not in RECIPES:
        return local.prepare_file(path, seed=seed)
    source, target = data.source, data.target
    match schema.load(path, RecipeKind).kind:
        case "wheels":
            found = schema.load(path, wheels.WheelsRecipe)
            return wheels.prepare(found, source=source, target=target, seed=seed, downloads=downloads)
        case "grammar":
            return synthetic.prepare(
                schema.load(path, synthetic.SyntheticRecipe), source=source, target=target, seed=seed
            )
        case "mtdata":
            named = schema.load(path, mtdata.MtdataRecipe)
            return mtdata.prepare(named, source=source, target=target, downloads=downloads)
