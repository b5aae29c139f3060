"""Public corpora by name: mtdata's own index says where they are, its downloader and parser fetch and read them."""

import difflib
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from seqkd import cleaning, corpus
from seqkd.cleaning import Cleaned, Line, Split
from seqkd.config import Record
from seqkd.errors import InputError

if TYPE_CHECKING:
    from mtdata.entry import Entry


class Public(Record):
    kind: Literal["mtdata"]
    train: Annotated[list[str], Field(min_length=1)]  # mtdata's names: GROUP-NAME-VERSION-LANGUAGE-LANGUAGE
    dev: str
    test: str
    replace: dict[str, str] = Field(default_factory=dict)  # a corpus's own way to write something: what is meant


def prepare(recipe: Public, *, source: str, target: str, downloads: Path) -> Cleaned:
    """The corpora of a recipe in their official split. Raises InputError for an unknown name, a failed download."""
    names = {"train": recipe.train, "dev": [recipe.dev], "test": [recipe.test]}
    entries = {part: [entry(name, downloads) for name in group] for part, group in names.items()}
    parts: dict[str, list[Line]] = {}
    for part, group in entries.items():
        pairs = (pair for found in group for pair in read(found, fetch(found, downloads), source=source, target=target))
        parts[part] = [Line("", *(_meant(side, recipe.replace) for side in pair)) for pair in pairs]
    split, drops = cleaning.official(Split(**parts))
    return Cleaned(split, drops, {part: [_account(found) for found in group] for part, group in entries.items()})


def entry(name: str, downloads: Path) -> "Entry":
    """What mtdata's index, which comes with the library, knows of a corpus. Raises InputError for an unknown name."""
    import mtdata

    logging.getLogger().setLevel(logging.WARNING)  # mtdata sets the root logger to INFO
    mtdata.cached_index_file = downloads / "mtdata" / mtdata.cached_index_file.name
    mtdata.cached_index_file.parent.mkdir(parents=True, exist_ok=True)
    from mtdata.entry import DatasetId
    from mtdata.index import INDEX

    try:
        return INDEX[DatasetId.parse(name)]
    except Exception:  # mtdata raises Exception itself for a malformed name
        names = [str(known) for known in INDEX.entries]
        group = name.partition("-")[0].casefold()
        likely = [known for known in names if known.partition("-")[0].casefold() == group]
        near = difflib.get_close_matches(name, likely or names, n=1)
        raise InputError(f"mtdata knows no corpus {name}{f'; is it {near[0]}?' if near else '.'}") from None


def fetch(found: "Entry", downloads: Path) -> object:
    """The local files of a corpus, downloaded where they are absent. Raises InputError if that fails."""
    from mtdata.cache import Cache

    try:
        return Cache(downloads / "mtdata").get_entry(found)
    except (OSError, AssertionError) as error:
        raise InputError(
            f"{found.did} could not be downloaded ({str(error).splitlines()[0]}); "
            "connect to the network, or set data.corpus in params.yaml to a folder of your own text."
        ) from None


def read(found: "Entry", files: object, *, source: str, target: str) -> Iterator[tuple[str, str]]:
    """The pairs of a corpus's local files in the order source, target, without those that mtdata calls noise.

    Raises InputError for a corpus of other languages.
    """
    from mtdata.iso.bcp47 import bcp47
    from mtdata.parser import Parser

    order = [str(language) for language in found.did.langs]
    wanted = [str(bcp47(language)) for language in (source, target)]
    if sorted(order) != sorted(wanted):
        spoken, asked = " and ".join(order), " and ".join(wanted)
        raise InputError(f"{found.did} is {spoken}, not {asked}; set data.source and data.target.")
    for first, second, *_ in Parser(files, ext=found.in_ext or None, ent=found).read_segs(show_pbar=False):
        if not found.is_noisy(first, second):
            yield (first, second) if order == wanted else (second, first)


def _meant(text: str, replace: dict[str, str]) -> str:
    for written, meant in replace.items():
        text = text.replace(written, meant)
    return corpus.normal(text)


def _account(found: "Entry") -> dict[str, object]:
    urls = [found.url] if isinstance(found.url, str) else list(found.url)
    return {"corpus": str(found.did), "addresses": urls, "licence": "not stated by mtdata; see the corpus's own page"}
