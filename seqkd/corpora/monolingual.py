"""Source lines without a translation: a file of the user's own, or the source side of a recipe."""

import sqlite3
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Literal

from pydantic import ConfigDict

from seqkd.config import records, yaml_file
from seqkd.config.records import Record
from seqkd.config.schema import DataSettings
from seqkd.corpora import cleaning, mtdata, text_file, wheels
from seqkd.corpora.stored import Line
from seqkd.data.bitext import Pair
from seqkd.data.normalization import normalize
from seqkd.utils.errors import InputError

RECIPE_SUFFIXES = (".yaml", ".yml")


class RecipeKind(Record):
    """The key of a recipe that says which kind of record it is."""

    model_config = ConfigDict(extra="ignore")
    kind: Literal["none", "wheels", "mtdata"]


def file(data: DataSettings) -> Path | None:
    """Return the file of lines that data.monolingual names; None: it names a recipe, or nothing."""
    path = Path(data.monolingual) if data.monolingual else None
    return None if path is None or path.suffix in RECIPE_SUFFIXES else path


class Lines:
    """The lines of data.monolingual as pairs with an empty target; their ids come after all others.

    Without empty lines, repeats, what train has, sources that dev or test have but for case and punctuation, and a
    recipe's lines of held-out groups: dev and test are of components that nobody has seen. Memory does not grow with
    the number of lines. After the iteration, count and drops tell of all lines.
    """

    def __init__(
        self,
        data: DataSettings,
        *,
        train: Sequence[Pair],
        held_out: Sequence[Pair],
        held_out_groups: Collection[str],
        downloads: Path,
    ) -> None:
        self.data, self.train, self.downloads = data, train, downloads
        self.held_out, self.held_out_groups = held_out, held_out_groups
        self.count = 0
        self.drops: Counter[str] = Counter()

    def __iter__(self) -> Iterator[Pair]:
        first = 1 + max((pairs[-1].id for pairs in (self.train, self.held_out) if pairs), default=-1)
        keys = {cleaning.key(pair.source) for pair in self.held_out}
        with closing(sqlite3.connect("")) as seen:  # "": a temporary file, which SQLite deletes
            seen.execute("CREATE TABLE line (text TEXT PRIMARY KEY) WITHOUT ROWID")
            for number, (group, line, _) in enumerate(_lines(self.data, self.downloads)):
                if number == 0:  # most often there are no lines, and then this would take longer than all else
                    seen.executemany("INSERT OR IGNORE INTO line VALUES (?)", ((pair.source,) for pair in self.train))
                if not line:
                    self.drops["monolingual, empty"] += 1
                elif group in self.held_out_groups:
                    self.drops["monolingual, of a component in dev or test"] += 1
                elif cleaning.key(line) in keys:
                    self.drops["monolingual, seen in dev or test"] += 1
                elif not seen.execute("INSERT OR IGNORE INTO line VALUES (?)", (line,)).rowcount:
                    self.drops["monolingual, repeated"] += 1
                else:
                    yield Pair(first + self.count, line, "")
                    self.count += 1
        if not self.count and not self.train:
            raise InputError(f"data.monolingual: {self.data.monolingual} has no line that dev and test lack; add some.")

    def add_counts(self, about: dict[str, Any]) -> dict[str, Any]:
        """Return the facts about a corpus with the number of these lines, where there are any, and of the drops."""
        pairs = about["pairs"] | ({"monolingual": self.count} if self.count else {})
        return about | {"pairs": pairs, "dropped": about["dropped"] | self.drops}


def _lines(data: DataSettings, downloads: Path) -> Iterator[Line]:
    tidy = cleaning.untokenize if data.tidy else normalize
    if path := file(data):
        if not path.exists():
            raise InputError(f"data.monolingual: {path} does not exist; name a file of source lines, or a recipe.")
        yield from (Line("", tidy(line), "") for line in text_file.read_lines(path))
    elif data.monolingual:
        recipe, where = yaml_file.read(Path(data.monolingual)), data.monolingual
        kind = records.parse(RecipeKind, recipe, where=where).kind
        if kind == "wheels":
            packages = records.parse(wheels.WheelsRecipe, recipe, where=where)
            yield from wheels.sources(packages, language=data.source, downloads=downloads)
        elif kind == "mtdata":
            corpora = records.parse(mtdata.MtdataRecipe, recipe, where=where)
            texts = mtdata.sources(corpora, source=data.source, downloads=downloads)
            yield from (Line("", tidy(text), "") for text in texts)
