"""Public corpora by name: mtdata has the index of their addresses, downloads and parses them."""

import difflib
import logging
import tarfile
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from seqkd.config.records import Record
from seqkd.corpora import cleaning, splitting, text_file
from seqkd.corpora.cleaning import CHANGED, Cleaned, CountedForm
from seqkd.corpora.stored import LineWriter
from seqkd.utils import fingerprint
from seqkd.utils.errors import FULL, InputError

if TYPE_CHECKING:
    from mtdata.entry import Entry


Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Address = Annotated[str, Field(pattern=r"^https?://\S+$")]
Addresses = Annotated[list[Address], Field(min_length=2, max_length=2)]  # a file of lines for each language of the name


class MtdataRecipe(Record):
    kind: Literal["mtdata"]
    train: Annotated[list[str], Field(min_length=1)]  # mtdata's names: GROUP-NAME-VERSION-LANGUAGE-LANGUAGE
    dev: str | None = None  # None: split off from train by seed
    test: str | None = None
    addresses: dict[str, Addresses] = Field(default_factory=dict)  # of corpora that are not in mtdata's index, by name
    sha256: dict[str, Digest] = Field(default_factory=dict)  # address -> checksum; another file is refused
    replace: dict[str, str] = Field(default_factory=dict)  # what the corpus writes -> what it means


def prepare(
    recipe: MtdataRecipe, *, source: str, target: str, seed: int, downloads: Path, tidy: bool = False
) -> Cleaned:
    """Return a recipe's corpora in their official split, tidied if asked to; an absent part is split off by seed.

    Raise InputError for an unknown name or a failed download.
    """
    names: dict[str, Sequence[str | None]] = {"train": recipe.train, "dev": [recipe.dev], "test": [recipe.test]}
    entries = {part: [find_entry(name, recipe.addresses) for name in group if name] for part, group in names.items()}
    form = CountedForm(tidied=tidy)
    writers: dict[str, LineWriter] = {}
    origins: dict[str, list[dict[str, object]]] = {}
    for part, group in entries.items():
        for entry in group:
            files, facts = fetch(entry, downloads, recipe.sha256)
            origins.setdefault(part, []).append(facts)
            pairs = read(entry, files, source=source, target=target)
            writer = writers.setdefault(part, LineWriter())
            for pair in pairs:
                writer.add(*(form(_replaced(side, recipe.replace)) for side in pair))
    parts = {part: writer.finish() for part, writer in writers.items()}
    notes = cleaning.note_marks(parts, tidied=tidy)
    origin: dict[str, object] = {**origins, CHANGED: form.changed}
    cleaned = splitting.clean_and_split(parts, origin, seed=seed, where=recipe.train[0])
    return cleaned._replace(notes=notes)


def sources(recipe: MtdataRecipe, *, source: str, downloads: Path) -> Iterator[str]:
    """Yield the lines of one language of a recipe's training corpora, whatever their other language.

    Raise InputError for an unknown name, a failed download or a corpus without the language.
    """
    for name in recipe.train:
        entry = find_entry(name, recipe.addresses)
        files, _ = fetch(entry, downloads, recipe.sha256)
        for line, _ in read(entry, files, source=source, target=None):
            yield _replaced(line, recipe.replace)


def find_entry(name: str, addresses: Mapping[str, list[str]] | None = None) -> "Entry":
    """Return a corpus's entry: of the addresses given for its name, or else of the index that comes with mtdata.

    Raise InputError for an unknown name.
    """
    import mtdata

    logging.getLogger().setLevel(logging.WARNING)  # mtdata sets the root logger to INFO
    # mtdata loads its index from a pickle. In a new folder there is none but the one that it writes itself.
    with tempfile.TemporaryDirectory() as folder:
        mtdata.cached_index_file = Path(folder) / "index.pkl"
        from mtdata.entry import DatasetId, Entry
        from mtdata.index import INDEX

    try:
        if urls := (addresses or {}).get(name):
            return Entry(DatasetId.parse(name), url=tuple(urls), ext="txt", in_ext="txt")
        return INDEX[DatasetId.parse(name)]
    except Exception:  # mtdata raises Exception itself for a malformed name
        names = [str(known) for known in INDEX.entries]
        group = name.partition("-")[0].casefold()
        same_group = [known for known in names if known.partition("-")[0].casefold() == group]
        nearest = difflib.get_close_matches(name, same_group or names, n=1)
        raise InputError(f"mtdata knows no corpus {name}{f'; is it {nearest[0]}?' if nearest else '.'}") from None


def fetch(entry: "Entry", downloads: Path, pinned: Mapping[str, str]) -> tuple[object, dict[str, object]]:
    """Return the local files of a corpus, downloaded where they are absent, and where they come from.

    Raise InputError if that fails, or for a file with another checksum than the one pinned for its address.
    """
    from mtdata.cache import Cache

    if _can_unpack_safely():
        tarfile.TarFile.extraction_filter = staticmethod(tarfile.data_filter)  # no member can be written outside
    cache, name = Cache(downloads / "mtdata"), entry.filename if isinstance(entry.url, str) else None
    urls = [entry.url] if isinstance(entry.url, str) else list(entry.url)
    try:
        packed = {url: cache.get_local_path(url, filename=name, entry=entry) for url in urls}
        checksums = {url: fingerprint.file_sha256(path) for url, path in packed.items() if isinstance(path, Path)}
        for url, checksum in checksums.items():
            if pinned.get(url, checksum) != checksum:
                raise InputError(
                    f"{packed[url]}: sha256 is {checksum}, but the recipe pins {pinned[url]}; delete it and run again."
                )
            _refuse_page(packed[url])
            if not _can_unpack_safely() and tarfile.is_tarfile(packed[url]):
                raise InputError(f"{packed[url]}: this Python would unpack it to any place; use 3.11.4 or newer.")
        files = cache.get_entry(entry)
    except (OSError, AssertionError, tarfile.TarError) as error:
        if isinstance(error, OSError) and error.errno in FULL:
            raise
        reason = (str(error).splitlines() or ["no reason given"])[0]
        raise InputError(
            f"{entry.did} could not be downloaded ({reason}); "
            "connect to the network, or set data.corpus in params.yaml to a folder of your own text."
        ) from None
    licence = "not stated by mtdata; see the corpus's own page"
    return files, {"corpus": str(entry.did), "addresses": urls, "sha256": checksums, "licence": licence}


def _can_unpack_safely() -> bool:
    """Return whether Python keeps a tar archive's members inside the folder, as from 3.11.4 on."""
    return hasattr(tarfile, "data_filter")


def _refuse_page(path: object) -> None:
    """Raise InputError for a page of HTML, which some servers send in place of a file that they have no longer."""
    if isinstance(path, Path):
        with path.open("rb") as file:
            if text_file.root(file.read(text_file.HEAD)) == "html":
                raise InputError(f"{path}: a page of HTML in place of the download; delete it and run again.")


def read(entry: "Entry", files: object, *, source: str, target: str | None) -> Iterator[tuple[str, str]]:
    """Yield the (source, target) pairs of a corpus's local files, without those that mtdata takes for noise.

    target: None for any language. Raise InputError for a corpus of other languages, and for files that mtdata cannot
    read.
    """
    from mtdata.iso.bcp47 import bcp47
    from mtdata.parser import Parser

    order = [str(language) for language in entry.did.langs]
    named = [source] if target is None else [source, target]
    try:
        wanted = [str(bcp47(language)) for language in named]
    except ValueError:
        raise InputError(
            f"mtdata knows no language {' or '.join(named)}; write it like de, pt-BR or sr-Latn."
        ) from None
    if not set(wanted) <= set(order):
        raise InputError(
            f"{entry.did} is {' and '.join(order)}, not {' and '.join(wanted)}; set data.source and data.target."
        )
    try:
        for first, second, *_ in Parser(files, ext=entry.in_ext or None, ent=entry).read_segs(show_pbar=False):
            if not entry.is_noisy(first, second):
                yield (first, second) if order[0] == wanted[0] else (second, first)
    except Exception as error:  # mtdata raises Exception itself, and what its parsers raise
        if isinstance(error, OSError) and error.errno in FULL:
            raise
        reason = (str(error).splitlines() or ["no reason given"])[0]
        raise InputError(f"{entry.did}: its files cannot be read ({reason}); delete them and run again.") from None


def _replaced(text: str, replace: dict[str, str]) -> str:
    for written, meant in replace.items():
        text = text.replace(written, meant)
    return text
