"""The parts of a corpus in a folder: which files are train, dev and test, and which only look like it."""

import re
from pathlib import Path
from typing import NamedTuple

from seqkd.corpora import language_codes, unpacking
from seqkd.utils import links
from seqkd.utils.errors import InputError

ALIASES = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("dev", "valid", "val", "validation", "development"), "dev"),
    "test": "test",
}
SHOWN = 6  # names in a sentence
_ENDS = re.compile(rf"(\.txt)?(\.({'|'.join(unpacking.SUFFIXES)}))?$")
_LIKE_A_PART = re.compile(
    rf"(^|[\W_\d])({'|'.join(ALIASES)}|devel|devtest|tst|eval|heldout|news(dev|test|discuss\w*|syscomb))($|[\W_\d])"
)


class Found(NamedTuple):
    parts: dict[str, tuple[Path, Path]]  # train, dev, test: the files of source and target
    unread: list[str]  # names that look like those of a part


def find(folder: Path, *, source: str, target: str, needs_train: bool = True) -> Found:
    """Return the files of a folder's parts, such as train.en, Valid.de.gz, dev.en.txt.xz or test.de-en.de.

    Raise InputError for a part with two candidates, or with one side only, for no train, for a link to nothing.
    """
    links.refuse_dangling(folder)
    entries = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    candidates: dict[str, dict[str, list[Path]]] = {part: {source: [], target: []} for part in ("train", "dev", "test")}
    for path in entries:
        for language in (source, target):
            if part := ALIASES.get(_stem(path, language, (source, target))):
                candidates[part][language].append(path)
    parts: dict[str, tuple[Path, Path]] = {}
    for part, sides in candidates.items():
        if (needs_train and part == "train") or any(sides.values()):
            parts[part] = _one_each(folder, part, sides, entries)
    if "train" not in parts and len(parts) < 2:
        raise InputError(f"{folder} has no train files, so it needs those of dev and test; add them.")
    read = {path for paths in parts.values() for path in paths}
    others = [path for path in entries if path not in read and not _is_other_language(path, parts)]
    return Found(parts, [path.name for path in others if _LIKE_A_PART.search(path.name.casefold())])


def listed(names: list[str]) -> str:
    """Return some names as a list for a sentence."""
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(name if len(name) <= 40 else f"{name[:40]}..." for name in names[:SHOWN]) + more


def _stem(path: Path, language: str, pair: tuple[str, ...]) -> str:
    """Return what stands in a file's name before the language, and before both as in train.de-en.de; else nothing."""
    name, end = _ENDS.sub("", language_codes.canonical(path.name)), f".{language_codes.canonical(language)}"
    if not name.endswith(end):
        return ""
    first, second = map(language_codes.canonical, pair)
    return name.removesuffix(end).removesuffix(f".{first}_{second}").removesuffix(f".{second}_{first}")


def _one_each(folder: Path, part: str, sides: dict[str, list[Path]], entries: list[Path]) -> tuple[Path, Path]:
    """Return the two files of a part. Raise InputError unless there is one for each side, with the same stem."""
    for paths in sides.values():
        if len(paths) > 1:
            raise InputError(f"{folder} has {listed([path.name for path in paths])} for {part}; keep one of them.")
    source, target = sides
    for language, other in ((source, target), (target, source)):
        if not sides[language] and sides[other]:
            raise InputError(
                f"{folder} has {sides[other][0].name} but no {part}.{language}; it has {_names(entries)}; "
                "add it, or correct data.source and data.target."
            )
    if not sides[source]:
        raise InputError(
            f"{folder} has no {part}.{source} and {part}.{target}; it has {_names(entries)}; "
            "give the two files of the training text these names, or correct data.source and data.target."
        )
    first, second = sides[source][0], sides[target][0]
    if _stem(first, source, (source, target)) != _stem(second, target, (source, target)):
        raise InputError(f"{folder}: {first.name} and {second.name} have two names for {part}; give both the same.")
    return first, second


def _names(entries: list[Path]) -> str:
    return listed([path.name for path in entries]) or "no files"


def _is_other_language(path: Path, parts: dict[str, tuple[Path, Path]]) -> bool:
    """Return whether a file is another language of a part that is read, such as train.fr."""
    stem, _, _ = _ENDS.sub("", path.name.casefold()).rpartition(".")
    return ALIASES.get(stem) in parts
