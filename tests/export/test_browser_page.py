"""The page that translates offline: its JavaScript agrees with Python, and what comes from a model stays text."""

import base64
import hashlib
import json
import random
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import sentencepiece
from browsers import CHROMIUM, IN_BROWSER
from networks import PLACEHOLDERS, TEXT, untrained_model
from playwright.sync_api import sync_playwright

from seqkd.data import bitext, placeholders, vocab
from seqkd.data.bitext import Pair
from seqkd.data.normalization import normalize
from seqkd.data.vocab import Vocab
from seqkd.export import browser_page, scores
from seqkd.export.card import Card
from seqkd.models import checkpoint
from seqkd.models.checkpoint import Model
from seqkd.utils.errors import InputError

RUNNER = Path(__file__).with_name("run_page.js")
HOSTILE = "</script><script>document.title = 'hacked'</script><img src=x onerror=\"document.title='hacked'\">"
CARD = Card({"language": ["en", "de"]}, f"# small {HOSTILE}\n")
INTERFACE = ["{name}", "%s", "({{b}})", "{n, number}", "%(a)d%%", "100 %", "{", "%1$s", "$1"]  # placeholders, and none
LINES = ["a cat", "", "the dog sat on a mat, and ran 🐈", "Matte " * 12, "\u00ad", HOSTILE, "ש\u200f שלום", "a\u0308 x"]
LINES += ["the %s of {b}{a}", PLACEHOLDERS + "{9}"]
# Code points on both sides of every rule of the normal form, and some of many scripts.
ALPHABET = [
    *map(chr, (*range(0x250), *range(0x2000, 0x2070), *range(0x2580, 0x2584), 0x3000, 0x3164, 0xD800, 0xDFFF)),
    *"\u1680\u17b4\u180e\ufeff\ufffd\u2800\u0301\u0308\u05d0\u0627\u1100\u1161\u11a8\uac00日本🐈\U0001d173\U000e0001",
]
in_browser, needs_browser = IN_BROWSER
needs_node = pytest.mark.skipif(not shutil.which("node"), reason="needs node")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return untrained_model(tmp_path_factory.mktemp("made"), texts=[*TEXT, PLACEHOLDERS])


@pytest.fixture(scope="module")
def page(made: Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("page")
    bitext.write(folder / "test.tsv", [Pair(number, f"a dog ran {number} times on", TEXT[0]) for number in range(9)])
    browser_page.write(folder / "page.html", made, CARD, test=folder / "test.tsv")
    return folder / "page.html"


def in_node(page: Path, calls: Sequence[tuple[str, Any]]) -> list[Any]:
    """The results of the page's own functions."""
    command = ["node", str(RUNNER), str(page)]
    done = subprocess.run(command, input=json.dumps(calls), capture_output=True, text=True, check=True)
    found: list[Any] = json.loads(done.stdout)
    return found


def fuzzed(count: int) -> Iterator[str]:
    """Strings of any characters, and sentences with some of these among them."""
    rng = random.Random(7)
    words = [*" ".join(TEXT).split(), *INTERFACE]
    for _ in range(count):
        characters = list(" ".join(rng.choices(words, k=rng.randrange(9)))) if rng.random() < 0.6 else []
        for _ in range(rng.randrange(8)):
            any_character = chr(rng.randrange(0x110000))
            characters.insert(rng.randint(0, len(characters)), rng.choice([any_character, rng.choice(ALPHABET)]))
        yield "".join(characters)


def expected(model: Model, name: str, argument: Any) -> Any:
    """What Python computes where the page calls this function."""
    if name == "normalize":
        return normalize(argument)
    return model.vocab.encode(argument) if name == "encode" else model.vocab.decode(*argument)


def differing(model: Model, calls: Sequence[tuple[str, Any]], found: Sequence[Any]) -> list[tuple[str, Any]]:
    return [call for call, result in zip(calls, found, strict=True) if result != expected(model, *call)]


def text_calls(model: Model, count: int) -> list[tuple[str, Any]]:
    rng = random.Random(8)
    texts = [*LINES, *fuzzed(count)]
    ids = [[rng.choices(range(model.vocab.size), k=rng.randrange(12)), text] for text in texts]
    return [(name, text) for text in texts for name in ("normalize", "encode")] + [("decode", each) for each in ids]


@needs_node
@pytest.mark.slow
def test_page_has_the_normal_form_and_the_pieces_of_python_for_10000_fuzzed_strings(made: Model, page: Path) -> None:
    calls = text_calls(made, 10_000)
    assert differing(made, calls, in_node(page, calls)) == []


@needs_node
def test_page_writes_a_run_of_unknown_characters_as_one_piece_where_there_are_no_bytes(tmp_path: Path) -> None:
    model = untrained_model(tmp_path, byte_fallback=False, texts=[*TEXT, PLACEHOLDERS])
    browser_page.write(tmp_path / "page.html", model, CARD)
    calls = text_calls(model, 2000)
    assert differing(model, calls, in_node(tmp_path / "page.html", calls)) == []


@needs_node
def test_page_finds_the_placeholders_that_python_finds(page: Path) -> None:
    rng = random.Random(9)
    parts = [*"{}{}{}%%%%()[]$ .,:!#+-_0123456789sdiufxé日ж", "name", "number", "count", "{a}", *INTERFACE]
    texts = ["".join(rng.choices(parts, k=rng.randrange(1, 12))) for _ in range(20_000)]
    found = in_node(page, [("placeholders", text) for text in texts])
    expected = [placeholders.find(normalize(text))[:9] for text in texts]
    assert [text for text, own, other in zip(texts, found, expected, strict=True) if own != other] == []
    assert sum(map(bool, found)) > 5000


@needs_node
def test_page_leaves_placeholders_to_a_vocabulary_that_has_no_pieces_for_them(made: Model, tmp_path: Path) -> None:
    plain = made._replace(vocab=vocab.train(TEXT * 3, tmp_path / "joint.model", size=300, byte_fallback=True))
    browser_page.write(tmp_path / "page.html", plain, CARD)
    calls = [("encode", "the {name} sat"), ("decode", [plain.vocab.encode("the %s"), "the {name}"])]
    assert in_node(tmp_path / "page.html", calls) == [plain.vocab.encode("the {name} sat"), "the %s"]


@needs_node
@pytest.mark.parametrize("beam", [1, 5])
def test_page_translates_as_the_search_does_with_the_weights_that_it_holds(made: Model, page: Path, beam: int) -> None:
    sent = checkpoint.rounded(made)
    sent.network.int8 = False
    lines = [*LINES, *fuzzed(60)]
    found = in_node(page, [("translate", [line, beam]) for line in lines])
    assert found == scores.searcher(sent)(lines, beam)
    assert any(map(placeholders.find, found))


@needs_node
def test_page_reads_only_the_beginning_of_a_line_that_is_too_long(page: Path) -> None:
    first, second = in_node(page, [("translate", ["日" * 334 + end, 1]) for end in ("", " a cat")])
    assert first == second


def test_page_holds_what_comes_from_the_model_as_json_without_a_tag(page: Path) -> None:
    html = page.read_text(encoding="utf-8")
    assert HOSTILE not in html
    assert len(re.findall(r"<script", html)) == 3
    (data,) = re.findall(r'id="model">([^<]*)</script>', html)
    assert HOSTILE in json.loads(data)["card"]


def test_page_lets_its_own_two_scripts_run_and_nothing_be_fetched(page: Path) -> None:
    html = page.read_text(encoding="utf-8")
    (policy,) = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]*)"', html)
    assert policy.startswith("default-src 'none'; ")
    for block in re.findall(r"<(?:style|script id=\"\w+\")>(.*?)</(?:style|script)>", html, re.DOTALL):
        assert f"'sha256-{base64.b64encode(hashlib.sha256(block.encode()).digest()).decode()}'" in policy


def test_page_refuses_a_vocabulary_that_rewrites_the_text(made: Model, tmp_path: Path) -> None:
    sentencepiece.SentencePieceTrainer.Train(
        sentence_iterator=iter(TEXT * 3), model_prefix=str(tmp_path / "old"), model_type="bpe", vocab_size=40,
        pad_id=0, unk_id=1, bos_id=2, eos_id=3, minloglevel=2,
    )  # fmt: skip
    old = made._replace(vocab=Vocab((tmp_path / "old.model").read_bytes()))
    with pytest.raises(InputError, match=r"vocabulary folds characters .* export this model to a folder\."):
        browser_page.write(tmp_path / "page.html", old, CARD)
    assert not (tmp_path / "page.html").exists()


def test_page_refuses_a_vocabulary_that_merges_no_pairs(made: Model, tmp_path: Path) -> None:
    sentencepiece.SentencePieceTrainer.Train(
        sentence_iterator=iter(TEXT * 3), model_prefix=str(tmp_path / "other"), model_type="unigram", vocab_size=40,
        pad_id=0, unk_id=1, bos_id=2, eos_id=3, minloglevel=2, hard_vocab_limit=False,
        normalization_rule_name="identity", remove_extra_whitespaces=False,
    )  # fmt: skip
    other = made._replace(vocab=Vocab((tmp_path / "other.model").read_bytes()))
    with pytest.raises(
        InputError, match=r"vocabulary is not of BPE, as a page needs it; export this model to a folder"
    ):
        browser_page.write(tmp_path / "page.html", other, CARD)


# In a browser.


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_playwright() as running:
        opened = running.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture
def tab(browser: Any, page: Path) -> Iterator[Any]:
    """The page at a phone's width; in the end no error was told and no host was asked."""
    opened = browser.new_page(viewport={"width": 390, "height": 844}, color_scheme="dark")
    told: list[str] = []
    asked: list[str] = []
    opened.on("console", lambda message: told.append(message.text))
    opened.on("pageerror", lambda error: told.append(str(error)))
    opened.on("request", lambda request: asked.append(request.url))
    opened.goto(page.as_uri())
    yield opened
    opened.close()
    assert told == []
    assert asked == [page.as_uri()]


@in_browser
@needs_browser
def test_page_translates_what_is_typed_and_shows_markup_as_text(tab: Any, made: Model) -> None:
    sent = checkpoint.rounded(made)
    sent.network.int8 = False
    for beam, name in ((1, "greedy"), (5, "beam of 5")):
        tab.get_by_label(name).check()
        for line in (LINES[0], LINES[2], HOSTILE, *LINES[-2:]):
            tab.get_by_label("English").fill(line)
            (translation,) = scores.searcher(sent)([line], beam)
            tab.wait_for_function("text => document.getElementById('target').textContent === text", arg=translation)
    tab.get_by_label("English").fill("the %s of {b}")
    tab.wait_for_function("() => document.getElementById('attention').textContent.includes('of')")
    assert "{b}" in tab.locator("#attention").text_content()
    assert "Characters that the model hardly knows" not in tab.locator("#note").text_content()
    assert HOSTILE in tab.locator("#card").text_content()
    assert tab.title() == "English to German"
    assert tab.locator("#scores tbody tr").count() == 4
    assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth")


@in_browser
@needs_browser
def test_page_tells_a_words_probability_by_keyboard_alone(tab: Any) -> None:
    tab.get_by_label("English").fill("\n".join(LINES))
    tab.locator(".word").nth(1).wait_for()
    tab.locator(".word").first.focus()
    first = tab.locator("#word").text_content()
    tab.keyboard.press("ArrowRight")
    assert tab.evaluate("document.activeElement === document.querySelectorAll('.word')[1]")
    assert re.search(r": \d+ %", tab.locator("#word").text_content())
    assert tab.locator("#word").text_content() != first
    assert tab.locator("#attention svg rect").count() > 0


@in_browser
@needs_browser
def test_page_computes_in_a_browser_what_python_does_for_10000_fuzzed_strings(tab: Any, made: Model) -> None:
    calls = text_calls(made, 10_000)
    found = tab.evaluate(
        """text => JSON.parse(text).map(([name, argument]) =>
        name === "normalize" ? normalize(argument) : vocabulary[name](...[argument].flat()))""",
        json.dumps(calls),
    )
    assert differing(made, calls, found) == []
