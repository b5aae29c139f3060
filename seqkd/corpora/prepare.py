"""The corpus that data.corpus of params.yaml names, as numbered train, dev and test pairs with their origin."""

import itertools
import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple, overload

from pydantic import ConfigDict

from seqkd.config import records, schema, yaml_file
from seqkd.config.records import Record
from seqkd.corpora import local, monolingual, mtdata, synthetic, wheels
from seqkd.corpora.cleaning import Cleaned
from seqkd.corpora.monolingual import RECIPE_SUFFIXES
from seqkd.corpora.stored import Chosen, Line
from seqkd.data.bitext import Pair
from seqkd.utils.errors import InputError


class RecipeKind(Record):
    """The key of a recipe that says which kind of record it is."""

    model_config = ConfigDict(extra="ignore")
    kind: Literal["wheels", "grammar", "mtdata"]


class Prepared(NamedTuple):
    train: Sequence[Pair]
    dev: Sequence[Pair]
    test: Sequence[Pair]
    about: dict[str, object]  # where the text comes from, and the number of dropped lines by cause
    notes: tuple[str, ...]  # what the user should know besides
    held_out_groups: frozenset[str]  # whose lines, such as a component's, dev and test have


class _Numbered(Sequence[Pair]):
    """Lines with ids that count up from the first one's."""

    def __init__(self, lines: Sequence[Line], first: int) -> None:
        self._lines, self._first = lines, first

    def __len__(self) -> int:
        return len(self._lines)

    @overload
    def __getitem__(self, index: int) -> Pair: ...

    @overload
    def __getitem__(self, index: slice) -> list[Pair]: ...

    def __getitem__(self, index: int | slice) -> Pair | list[Pair]:
        if isinstance(index, slice):
            return [self[row] for row in range(len(self))[index]]
        row = range(len(self))[index]
        return Pair(self._first + row, *self._lines[row][1:])


def prepare(data: schema.DataSettings, *, seed: int, downloads: Path) -> Prepared:
    """Return the pairs of the corpus that data.corpus names: a recipe (*.yaml), a folder or one file of pairs.

    seed: where data has none of its own. The ids count up through train, dev and test. Raise InputError for what
    cannot be read or downloaded.
    """
    seed = seed if data.seed is None else data.seed
    parts, drops, origin, notes = _load(data, seed=seed, downloads=downloads)
    if 0 < data.max_pairs < len(parts.train):
        drops = drops + Counter({"train, not in the sample": len(parts.train) - data.max_pairs})
        chosen = sorted(random.Random(seed).sample(range(len(parts.train)), data.max_pairs))
        parts = parts._replace(train=Chosen(parts.train, chosen))
    firsts = itertools.accumulate(map(len, parts), initial=0)
    train, dev, test = (_Numbered(lines, first) for lines, first in zip(parts, firsts, strict=False))
    about: dict[str, object] = {
        "corpus": data.corpus,
        "source": data.source,
        "target": data.target,
        "seed": seed,
        "origin": origin,
        "dropped": dict(drops),
        "pairs": {name: len(lines) for name, lines in parts._asdict().items()},
    }
    groups = frozenset(line.group for part in (parts.dev, parts.test) for line in part if line.group)
    return Prepared(train, dev, test, about, notes, groups)


def _load(data: schema.DataSettings, *, seed: int, downloads: Path) -> Cleaned:
    path = Path(data.corpus)
    if path.is_dir():
        languages, needs_train = {"source": data.source, "target": data.target}, monolingual.file(data) is None
        return local.prepare(path, **languages, seed=seed, tidy=data.tidy, needs_train=needs_train)
    if not path.exists():
        files = sorted(Path("corpora").glob("*"))
        recipes = ", ".join(str(file) for file in files if file.suffix in RECIPE_SUFFIXES)
        others = f"one of {recipes}" if recipes else "a recipe (*.yaml)"
        raise InputError(f"data.corpus: {path} does not exist; name a folder, one file of pairs, or {others}.")
    if path.suffix not in RECIPE_SUFFIXES:
        return local.prepare_file(path, source=data.source, target=data.target, seed=seed, tidy=data.tidy)
    return _load_recipe(path, data, seed=seed, downloads=downloads)


def _load_recipe(path: Path, data: schema.DataSettings, *, seed: int, downloads: Path) -> Cleaned:
    values, where, source, target = yaml_file.read(path), str(path), data.source, data.target
    match records.parse(RecipeKind, values, where=where).kind:
        case "wheels":
            packages = records.parse(wheels.WheelsRecipe, values, where=where)
            return wheels.prepare(packages, source=source, target=target, seed=seed, downloads=downloads)
        case "grammar":
            grammar = records.parse(synthetic.SyntheticRecipe, values, where=where)
            return synthetic.prepare(grammar, source=source, target=target, seed=seed)
        case "mtdata":
            public = records.parse(mtdata.MtdataRecipe, values, where=where)
            return mtdata.prepare(public, source=source, target=target, seed=seed, downloads=downloads, tidy=data.tidy)
