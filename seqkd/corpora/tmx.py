"""Translation memories in TMX, read unit by unit, with no entity or file from elsewhere."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lxml import etree

from seqkd.corpora import cleaning, language_codes, text_file
from seqkd.corpora.unpacking import BrokenError
from seqkd.utils.errors import InputError

LANGUAGE = ("{http://www.w3.org/XML/1998/namespace}lang", "lang")  # attributes of TMX 1.4 and 1.1
SAFE = {"resolve_entities": False, "no_network": True, "load_dtd": False, "huge_tree": False}


def read(path: Path, *, source: str, target: str) -> Iterator[tuple[str, str] | None]:
    """Yield the pairs of a TMX file, without inline codes; None for a unit that lacks one of the languages.

    Raise InputError for broken XML, a language that is absent, one that stands there in several variants only.
    """
    found = Counter(language for unit in _units(path) for language in unit)
    first, second = (_variant(path, language, found) for language in (source, target))
    for unit in _units(path):
        yield (unit[first], unit[second]) if first in unit and second in unit else None


def _variant(path: Path, language: str, found: Counter[str]) -> str:
    """Return the code in the file that is meant by a language: itself, or its only variant, as en_us for en."""
    wanted = language_codes.canonical(language)
    variants = [code for code in found if code.startswith(f"{wanted}_")]
    if wanted in found or len(variants) == 1:
        return wanted if wanted in found else variants[0]
    if variants:
        raise InputError(
            f"{path}: has {language} as {' and '.join(sorted(variants))}; name one of them as the language."
        )
    there = ", ".join(code for code, _ in found.most_common(12)) or "none"
    raise InputError(f"{path}: no text in {language}; its languages: {there} (data.source and data.target choose).")


def _units(path: Path) -> Iterator[dict[str, str]]:
    """Yield language -> text of each translation unit; of two texts in one language the first."""
    try:
        with text_file.open_unpacked(path) as stream:
            for _, unit in etree.iterparse(stream, tag="{*}tu", **SAFE):
                variants: dict[str, str] = {}
                for variant in unit.iterfind("{*}tuv"):
                    language = next((variant.get(name) for name in LANGUAGE if variant.get(name)), "")
                    segment = variant.find("{*}seg")
                    if language and segment is not None:
                        variants.setdefault(language_codes.canonical(language), _text(path, segment))
                yield variants
                _forget(unit)
    except etree.XMLSyntaxError as error:
        raise InputError(
            f"{path}, line {error.lineno}: broken XML; correct it there, or export the file anew."
        ) from None
    except BrokenError as error:
        raise InputError(f"{path}: {error}; compress the file anew.") from None


def _text(path: Path, segment: Any) -> str:
    """Return a segment's text without what its inline elements hold, which is another program's markup."""
    pieces = [segment.text or ""]
    for element in segment:
        if element.tag is etree.Entity:
            raise InputError(
                f"{path}, line {element.sourceline}: the entity {element.text} is not resolved; write its text there."
            )
        is_element = isinstance(element.tag, str)  # not a comment
        if is_element and etree.QName(element).localname == "hi":
            pieces.append(_text(path, element))
        elif is_element and cleaning.BREAK.search("".join(element.itertext())):
            pieces.append(" ")
        pieces.append(element.tail or "")
    text = "".join(pieces)
    if len(text) > text_file.MAX_LINE:
        line = f"{path}, line {segment.sourceline}"
        raise InputError(f"{line}: longer than {text_file.MAX_LINE:,} characters; write a sentence a segment.")
    return text


def _forget(unit: Any) -> None:
    """Free a unit and all before it, so that memory stays flat."""
    unit.clear()
    while unit.getprevious() is not None:
        del unit.getparent()[0]
