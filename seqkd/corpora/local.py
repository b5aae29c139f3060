"""Local corpora: a user's folder of train, dev and test files, or one file of tab-separated lines or of TMX."""

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from seqkd.corpora import cleaning, folder, splitting, stored, text_file, tmx
from seqkd.corpora.cleaning import CHANGED, Cleaned, CountedForm
from seqkd.corpora.stored import Line, LineWriter, StoredLines
from seqkd.data.normalization import normalize
from seqkd.data.ragged import RaggedArray
from seqkd.utils import fingerprint
from seqkd.utils.errors import InputError

# What the cells of a header are made of, besides codes of languages. One pair too few does no harm; it is told.
HEADER_WORD = re.compile(
    "source|src|target|tgt|trg|translation|reference|original|text|sentence|segment|string|phrase|language|lang|[12]|"
    "arabic|chinese|czech|danish|dutch|english|finnish|french|german|greek|hindi|hungarian|italian|japanese|korean|"
    "norwegian|persian|polish|portuguese|romanian|russian|spanish|swedish|thai|turkish|ukrainian|vietnamese"
)
NOT_TABS = {".csv": "CSV", ".json": "JSON", ".jsonl": "JSON", ".po": "a gettext catalogue", ".srt": "subtitles"}


def prepare(
    where: Path, *, source: str, target: str, seed: int, tidy: bool = False, needs_train: bool = True
) -> Cleaned:
    """Return a folder's train, dev and test; a dev or test that is absent is split off from train by seed.

    tidy: take out markup, entities and a tokenizer's marks; needs_train: False where dev and test alone will do, as
    there are lines without a translation to train on. Raise InputError, with file and line, for an absent
    language, unequal line counts, bad UTF-8, an empty file.
    """
    found = folder.find(where, source=source, target=target, needs_train=needs_train)
    form = CountedForm(tidied=tidy)
    given = {part: _read_sides(*paths, form=form) for part, paths in found.parts.items()}
    origin: dict[str, object] = {
        "files": {path.name: fingerprint.file_sha256(path) for paths in found.parts.values() for path in paths},
        CHANGED: form.changed,
        **{part: " and ".join(path.name for path in paths) for part, paths in found.parts.items() if part != "train"},
    }
    unread = (
        f"{where}: not read: {folder.listed(found.unread)}; name what you need like train.{source} or dev.{target}."
    )
    notes = (unread,) * bool(found.unread) + cleaning.note_marks(given, tidied=tidy)
    return splitting.clean_and_split(given, origin, seed=seed, where=where)._replace(notes=notes)


def prepare_file(path: Path, *, source: str, target: str, seed: int, tidy: bool = False) -> Cleaned:
    """Return the pairs of one file, TMX or lines of 'source, tab, target', plain or compressed, split by seed.

    Raise InputError, with the line, for what cannot be read.
    """
    form = CountedForm(tidied=tidy)
    notes: tuple[str, ...] = ()
    drops: Counter[str] = Counter()
    if text_file.root(text_file.read_head(path)) == "tmx":
        writer = LineWriter()
        for unit in tmx.read(path, source=source, target=target):
            if unit:
                writer.add(*map(form, unit))
            else:
                drops["units without one of the languages"] += 1
        lines: Sequence[Line] = writer.finish()
    else:
        lines = _read_tab_separated(path, form)
        if _is_header(header := lines[0], source, target):
            lines = lines[1:]
            drops["a header"] = 1
            notes = (f"{path}, line 1: {header.source} and {header.target} are taken for a header, not for a pair.",)
    origin: dict[str, object] = {"files": {path.name: fingerprint.file_sha256(path)}, CHANGED: form.changed}
    notes += cleaning.note_marks({"train": lines}, tidied=tidy)
    cleaned = splitting.clean_and_split({"train": lines}, origin, seed=seed, where=path)
    return cleaned._replace(drops=cleaned.drops + drops, notes=notes)


def _read_sides(source: Path, target: Path, *, form: CountedForm) -> StoredLines:
    """Return the pairs of two files, line by line. Raise InputError for unequal counts."""
    sides = [_read_side(path, form) for path in (source, target)]
    longer, shorter = (source, target) if len(sides[0]) > len(sides[1]) else (target, source)
    if len(sides[0]) != len(sides[1]):
        raise InputError(
            f"{longer}, line {min(map(len, sides)) + 1}: no such line in {shorter}, which has {min(map(len, sides))} "
            f"lines, not {max(map(len, sides))}; line n of one must translate line n of the other."
        )
    return StoredLines(*sides)


def _read_side(path: Path, form: CountedForm) -> RaggedArray:
    writer = stored.text_writer()
    for text in text_file.read_lines(path):
        writer.add(form(text).encode())
    return writer.finish()


def _read_tab_separated(path: Path, form: CountedForm) -> StoredLines:
    """Return the pairs of a file of 'source, tab, target' lines; a blank line has two empty sides."""
    writer = LineWriter()
    for number, text in enumerate(text_file.read_lines(path), start=1):
        cells = text.split("\t") if normalize(text) else ["", ""]
        if len(cells) != 2:
            raise InputError(_wrong_columns(path, number, cells))
        writer.add(*map(form, cells))
    return writer.finish()


def _wrong_columns(path: Path, number: int, cells: list[str]) -> str:
    """Return what is wrong with a line that has one column or more than two, and the mend."""
    suffixes = [suffix.casefold() for suffix in path.suffixes]
    kind = next((kind for suffix, kind in NOT_TABS.items() if suffix in suffixes), "")
    if len(cells) == 1 and kind:
        return f"{path}: is {kind}, which is not read; write each pair as 'source, tab, target'."
    texts = [str(column) for column, cell in enumerate(cells, start=1) if not re.fullmatch(r"[-+.,\deE%\s]*", cell)]
    if len(cells) == 1:
        return f"{path}, line {number}: 1 column; write 'source, tab, target' there."
    columns = f"{path}, line {number}: {len(cells)} columns; write 'source, tab, target' there"
    return f"{columns}, such as with cut -f {','.join(texts) if len(texts) == 2 else '1,2'} for all lines."


def _is_header(line: Line, source: str, target: str) -> bool:
    """Return whether the sides of a first line name their columns, such as source_text or en."""
    codes = {part for language in (source, target) for part in re.findall(r"[^\W_]+", language.casefold())}
    words = [re.findall(r"[^\W_]+", side.casefold()) for side in (line.source, line.target)]
    known = all(word in codes or HEADER_WORD.fullmatch(word) for side in words for word in side)
    return known and all(words) and words[0] != words[1]
