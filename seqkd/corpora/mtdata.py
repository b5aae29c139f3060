"""Public corpora by name: mtdata's own index says where they are, its downloader and parser fetch and read them."""

import difflib
import logging
import tarfile
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from seqkd.config.schema import Record
from seqkd.corpora import cleaning
from seqkd.corpora.cleaning import Cleaned, Line, Split
from seqkd.data import bitext
from seqkd.utils.errors import FULL, InputError

if TYPE_CHECKING:
    from mtdata.entry import Entry


Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class MtdataRecipe(Record):
    kind: Literal["mtdata"]
    train: Annotated[list[str], Field(min_length=1)]  # mtdata's names: GROUP-NAME-VERSION-LANGUAGE-LANGUAGE
    dev: str
    test: str
    sha256: dict[str, Digest] = Field(default_factory=dict)  # of what lies at an address; another file is refused
    replace: dict[str, str] = Field(default_factory=dict)  # a corpus's own way to write something: what is meant


def prepare(recipe: MtdataRecipe, *, source: str, target: str, downloads: Path) -> Cleaned:
    """The corpora of a recipe in their official split. Raises InputError for an unknown name, a failed download."""
    names = {"train": recipe.train, "dev": [recipe.dev], "test": [recipe.test]}
    entries = {part: [entry(name) for name in group] for part, group in names.items()}
    parts: dict[str, list[Line]] = {}
    account: dict[str, list[dict[str, object]]] = {}
    for part, group in entries.items():
        for found in group:
            files, origin = fetch(found, downloads, recipe.sha256)
            account.setdefault(part, []).append(origin)
            pairs = read(found, files, source=source, target=target)
            parts.setdefault(part, []).extend(Line("", *(_meant(it, recipe.replace) for it in pair)) for pair in pairs)
    split, drops = cleaning.official(Split(**parts))
    return Cleaned(split, drops, dict(account))


def entry(name: str) -> "Entry":
    """What mtdata's index, which comes with the library, knows of a corpus. Raises InputError for an unknown name."""
    import mtdata

    logging.getLogger().setLevel(logging.WARNING)  # mtdata sets the root logger to INFO
    # mtdata keeps its index as a pickle and loads what it finds: here it finds only what it has just written itself.
    with tempfile.TemporaryDirectory() as own:
        mtdata.cached_index_file = Path(own) / "index.pkl"
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


def fetch(found: "Entry", downloads: Path, pinned: Mapping[str, str]) -> tuple[object, dict[str, object]]:
    """The local files of a corpus, downloaded where they are absent, and the account of where they come from.

    Raises InputError if that fails, or for a file with another checksum than the one pinned for its address.
    """
    from mtdata.cache import Cache

    tarfile.TarFile.extraction_filter = staticmethod(tarfile.data_filter)  # no member leads out of its folder
    cache, name = Cache(downloads / "mtdata"), found.filename if isinstance(found.url, str) else None
    urls = [found.url] if isinstance(found.url, str) else list(found.url)
    try:
        packed = {url: cache.get_local_path(url, filename=name, entry=found) for url in urls}
        digests = {url: cleaning.file_digest(path) for url, path in packed.items() if isinstance(path, Path)}
        for url, digest in digests.items():
            if pinned.get(url, digest) != digest:
                raise InputError(
                    f"{packed[url]}: sha256 is {digest}, but the recipe pins {pinned[url]}; delete it and run again."
                )
        files = cache.get_entry(found)
    except (OSError, AssertionError, tarfile.TarError) as error:
        if isinstance(error, OSError) and error.errno in FULL:
            raise
        reason = (str(error).splitlines() or ["no reason given"])[0]
        raise InputError(
            f"{found.did} could not be downloaded ({reason}); "
            "connect to the network, or set data.corpus in params.yaml to a folder of your own text."
        ) from None
    licence = "not stated by mtdata; see the corpus's own page"
    return files, {"corpus": str(found.did), "addresses": urls, "sha256": digests, "licence": licence}


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
    return bitext.normalize(text)
