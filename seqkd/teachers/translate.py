"""An external teacher's lists of a text: from the cache or, where it has none yet, from the teacher.

The seam: a teacher's module has one entry function, which gives the hypotheses (`text_lists.TextHypothesis`) of source
lines. Everything else, such as the cache by line, the parts and their checks, is common to all of them.
"""

import glob
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from seqkd.config.machine import Machine
from seqkd.config.schema import DecodeSettings
from seqkd.config.teachers import CommandTeacher, CTranslate2Teacher, ExternalTeacher, FilesTeacher, TransformersTeacher
from seqkd.data import bitext, text_lists
from seqkd.data.text_lists import TextHypothesis
from seqkd.decoding import corpus_decoder, nbest_cache
from seqkd.decoding.nbest_cache import NbestCache
from seqkd.teachers import command, ctranslate2_teacher, files, transformers_teacher
from seqkd.utils import cache_dir, fingerprint
from seqkd.utils.errors import InputError

ADDED = 1000  # lists that are added to the cache together
SHOWN = 5  # lines that a refusal names


class Request(NamedTuple):
    """One text for one teacher."""

    name: str  # of the teacher
    teacher: ExternalTeacher
    settings: DecodeSettings
    machine: Machine
    text: Path  # pairs; their sources are translated
    lists: str = ""  # files: the glob of the lists
    sources: str | None = None  # files: the glob of the lines that they are of; None: the text's
    by_position: bool = False  # files: ids are not those of the text, but its lines from 0 on


def open_cache(request: Request) -> NbestCache:
    """Open the cache of this teacher and these settings. The lines of a command outlive all but its version."""
    match request.teacher:
        case FilesTeacher():
            paths = [*_list_files(request), *_source_files(request)]
            text = "" if request.sources else request.text
            key = cache_dir.key("files", fingerprint.of(files.__name__), str(request.by_position), text, *paths)
        case CommandTeacher():
            key = cache_dir.key("command", request.name, request.teacher.version)
        case CTranslate2Teacher():
            key = ctranslate2_teacher.key(request.teacher, request.settings)
        case TransformersTeacher():
            key = transformers_teacher.key(request.teacher, request.settings)
    return nbest_cache.open_cache(cache_dir.path(key, corpus_decoder.CACHE_NAME))


def translate_missing(cache: NbestCache, request: Request) -> Iterator[int]:
    """Add the lists of all sources that have none yet, and yield the number of each addition.

    Raise InputError where a source gets none.
    """
    for lists in _lists(cache, request):
        cache.add([nbest_cache.entry(source, text_lists.to_nbest(each)) for source, each in lists])
        yield len(lists)
    missing = [pair for part in corpus_decoder.parts(request.text) for pair in _without_list(cache, part)]
    if missing:
        first = ", ".join(f"{pair.id} ({pair.source[:30]!r})" for pair in missing[:SHOWN])
        raise InputError(
            f"params.yaml: teachers.{request.name}: {len(missing):,} lines of {request.text} have no translation"
            f" (ids {first}); translate them too."
        )


def _without_list(cache: NbestCache, part: list[bitext.Pair]) -> list[bitext.Pair]:
    absent = set(cache.missing(pair.source for pair in part).values())
    return [pair for pair in part if pair.source in absent]


def _lists(cache: NbestCache, request: Request) -> Iterator[list[tuple[str, list[TextHypothesis]]]]:
    """Yield sources with their hypotheses, several at a time."""
    if not corpus_decoder.count(cache, request.text)[1]:
        return
    match request.teacher:
        case FilesTeacher():
            remaining = files.lists(_list_files(request), _sources(request))
            while chunk := list(islice(remaining, ADDED)):
                yield chunk
        case CommandTeacher():
            program = request.machine.commands.get(request.name)
            if program is None:
                raise InputError(
                    f"machine.yaml: commands.{request.name} is missing; add how to start teachers.{request.name}, such"
                    f" as commands: {{{request.name}: {{argv: [program, option]}}}}."
                )
            yield from command.translate(request.name, program, corpus_decoder.missing(cache, request.text))
        case CTranslate2Teacher():
            chunks = corpus_decoder.missing(cache, request.text)
            yield from ctranslate2_teacher.translate(request.teacher, request.settings, request.machine, chunks)
        case TransformersTeacher():
            chunks = corpus_decoder.missing(cache, request.text)
            yield from transformers_teacher.translate(request.teacher, request.settings, request.machine, chunks)


def _list_files(request: Request) -> list[Path]:
    return files.find(request.lists, key=f"teachers.{request.name}")


def _source_files(request: Request) -> list[Path]:
    return files.find(request.sources, key=f"teachers.{request.name}.sources") if request.sources else []


def _sources(request: Request) -> Iterator[tuple[int, str]]:
    """Yield the sources that the lists are of, with their ids."""
    if request.sources:
        yield from files.numbered(_source_files(request))
    else:
        pairs = enumerate(bitext.stream(request.text))
        yield from ((position if request.by_position else pair.id, pair.source) for position, pair in pairs)


def write(cache: NbestCache, request: Request, out: Path) -> None:
    """Write the lists of a text all of whose lines have one, as a folder, atomically."""
    corpus_decoder.write(cache, request.text, out, processes=request.machine.processes)


def requests(
    name: str,
    teacher: ExternalTeacher,
    rows: dict[str, DecodeSettings],
    *,
    machine: Machine,
    text: Path,
    test: Path,
    lines: Path | None,
) -> dict[str, Request]:
    """Return what to ask a teacher, by the folder of the answer: the text for each row of decode, and the test set.

    lines: the file of data.monolingual. The test set is translated with the settings of the first row.
    """
    found: dict[str, Request] = {}
    for row, settings in rows.items():
        found[row] = Request(name, teacher, settings, machine, text)
        if isinstance(teacher, FilesTeacher):
            sources = teacher.sources or (glob.escape(str(lines)) if lines else None)
            found[row] = found[row]._replace(lists=teacher.lists, sources=sources)
    first = next(iter(rows.values()), DecodeSettings(beam=5))
    if not isinstance(teacher, FilesTeacher):
        found[text_lists.TEST] = Request(name, teacher, first, machine, test)
    elif teacher.test:
        found[text_lists.TEST] = Request(name, teacher, first, machine, test, lists=teacher.test, by_position=True)
    return found
