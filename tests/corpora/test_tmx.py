"""Translation memories: their languages, their inline codes, and files that mean harm."""

import gzip
import re
import tracemalloc
from pathlib import Path

import pytest

from seqkd.corpora import tmx
from seqkd.utils.errors import InputError

Pair = tuple[str, str] | None


def _unit(*variants: tuple[str, str], attribute: str = "xml:lang") -> str:
    inner = "".join(f"<tuv {attribute}='{code}'><seg>{text}</seg></tuv>" for code, text in variants)
    return f"<tu><note>n</note>{inner}</tu>\n"


def _file(folder: Path, *units: str, start: str = "<?xml version='1.0'?>\n") -> Path:
    text = f"{start}<tmx version='1.4'><header srclang='en'/>\n<body>\n{''.join(units)}</body></tmx>\n"
    (folder / "memory.tmx").write_text(text, encoding="utf-8")
    return folder / "memory.tmx"


def _read(path: Path, source: str = "en", target: str = "de") -> list[Pair]:
    return list(tmx.read(path, source=source, target=target))


def _refusal(path: Path, source: str = "en", target: str = "de") -> str:
    with pytest.raises(InputError) as error:
        _read(path, source, target)
    return str(error.value).removeprefix(f"{path}")


def test_tmx_has_a_pair_for_each_unit_with_both_languages(tmp_path: Path) -> None:
    units = [
        _unit(("en", "a dog"), ("de", "ein Hund")),
        _unit(("en", "a cat")),
        _unit(("de", "eine Kuh"), ("en", "a cow")),
    ]
    assert _read(_file(tmp_path, *units)) == [("a dog", "ein Hund"), None, ("a cow", "eine Kuh")]


@pytest.mark.parametrize("attribute", ["xml:lang", "lang"])
@pytest.mark.parametrize(
    ("source", "code"), [("en", "EN"), ("en", "en-US"), ("en_us", "EN-US"), ("sr-Latn", "sr_latn")]
)
def test_tmx_languages_match_in_any_case_and_by_their_only_variant(
    tmp_path: Path, source: str, code: str, attribute: str
) -> None:
    path = _file(tmp_path, _unit((code, "a dog"), ("de-AT", "ein Hund"), attribute=attribute))
    assert _read(path, source=source) == [("a dog", "ein Hund")]


def test_tmx_prefers_the_language_itself_to_its_variants(tmp_path: Path) -> None:
    path = _file(
        tmp_path, _unit(("en-GB", "colour"), ("en", "color"), ("de", "Farbe")), _unit(("en-GB", "a"), ("de", "b"))
    )
    assert _read(path) == [("color", "Farbe"), None]


def test_tmx_with_several_variants_or_without_the_language_is_refused(tmp_path: Path) -> None:
    path = _file(tmp_path, _unit(("en-US", "color"), ("en-GB", "colour"), ("de", "Farbe")))
    assert _refusal(path) == ": has en as en_gb and en_us; name one of them as the language."
    said = ": no text in fr; its languages: en_us, en_gb, de (data.source and data.target choose)."
    assert _refusal(path, source="en-US", target="fr") == said
    assert _refusal(_file(tmp_path)).startswith(": no text in en; its languages: none (")


@pytest.mark.parametrize(
    ("segment", "text"),
    [
        ("<bpt i='1'>&lt;b></bpt>bold<ept i='1'>&lt;/b></ept> text", "bold text"),
        ("press <ph x='1'>{0}</ph> now", "press  now"),
        ("one<ph>&lt;br/></ph>two", "one two"),
        ("a <hi type='x'>marked <it pos='begin'>\\i</it>word</hi>.", "a marked word."),
        ("a<!-- note --> dog<?pi x?>", "a dog"),
        ("R&amp;D &#8211; <![CDATA[<b>]]>", "R&D – <b>"),
        ("<ut>\\f</ut>", ""),
        ("", ""),
    ],
)
def test_tmx_segment_loses_its_inline_codes(tmp_path: Path, segment: str, text: str) -> None:
    assert _read(_file(tmp_path, _unit(("en", segment), ("de", "x")))) == [(text, "x")]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "iso-8859-1"])
def test_tmx_in_another_encoding_and_compressed_is_read(tmp_path: Path, encoding: str) -> None:
    text = _file(
        tmp_path,
        _unit(("en", "doors"), ("de", "Türen")),
        start=f"<?xml version='1.0' encoding='{encoding.removesuffix('-sig')}'?>\n<!DOCTYPE tmx SYSTEM 'tmx14.dtd'>\n",
    ).read_text("utf-8")
    path = tmp_path / "memory.tmx.gz"
    path.write_bytes(gzip.compress(text.encode(encoding)))
    assert _read(path) == [("doors", "Türen")]


def test_tmx_that_is_broken_is_refused_by_its_line(tmp_path: Path) -> None:
    path = _file(tmp_path, _unit(("en", "a dog"), ("de", "ein Hund")), "<tu><tuv></tu>")
    assert _refusal(path) == ", line 5: broken XML; correct it there, or export the file anew."
    path.write_bytes(path.read_bytes()[:90])
    assert re.fullmatch(r", line \d+: broken XML; correct it there, or export the file anew\.", _refusal(path))
    path.write_bytes(gzip.compress(path.read_bytes())[:-9])
    assert _refusal(path) == ": broken gzip, cut short; compress the file anew."


def test_tmx_reads_no_other_file_and_resolves_no_entity(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    start = f"<!DOCTYPE tmx [<!ENTITY x SYSTEM 'file://{tmp_path}/secret'><!ENTITY y 'why'>]>\n"
    for name in ("x", "y"):
        path = _file(tmp_path, _unit(("en", f"a &{name}; b"), ("de", "x")), start=start)
        assert _refusal(path) == f", line 4: the entity &{name}; is not resolved; write its text there."


def test_tmx_of_entities_that_grow_without_end_is_refused(tmp_path: Path) -> None:
    entities = "".join(f"<!ENTITY a{n} '{f'&a{n - 1};' * 10}'>" for n in range(1, 12))
    start = f"<!DOCTYPE tmx [<!ENTITY a0 'ha'>{entities}]>\n"
    assert _refusal(_file(tmp_path, _unit(("en", "&a11;"), ("de", "x")), start=start)).endswith(".")
    inside = _unit(("&a11;", "a"), ("de", "x"))
    assert _refusal(_file(tmp_path, inside, start=start)).endswith(".")


def test_tmx_with_a_segment_without_end_is_refused(tmp_path: Path) -> None:
    for size in (2 << 20, 20 << 20):
        path = _file(tmp_path, _unit(("en", "a" * size), ("de", "x")))
        assert re.match(r", line \d+: (longer than 1,048,576 characters|broken XML); ", _refusal(path))


def test_tmx_is_read_in_flat_memory(tmp_path: Path) -> None:
    path = _file(tmp_path, *(_unit(("en", f"dog {n} " * 50), ("de", f"Hund {n} " * 50)) for n in range(3000)))
    tracemalloc.start()
    assert sum(pair is not None for pair in tmx.read(path, source="en", target="de")) == 3000
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2_000_000 < path.stat().st_size
