"""The page in a real browser: opened from disk, used as a reader uses it."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from browsers import CHROMIUM, IN_BROWSER
from page_project import Page
from playwright.sync_api import Browser, Locator, ViewportSize, sync_playwright
from playwright.sync_api import Page as Tab

pytestmark = IN_BROWSER
WIDE: ViewportSize = {"width": 1280, "height": 900}
PHONE: ViewportSize = {"width": 390, "height": 844}


class Opened(NamedTuple):
    """An open page, what its console said, and what it asked a network or disk for besides itself."""

    tab: Tab
    messages: list[str]
    requests: list[str]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


def _open(browser: Browser, path: Path, *, size: ViewportSize, dark: bool = False) -> Opened:
    tab = browser.new_page(viewport=size, color_scheme="dark" if dark else "light")
    opened = Opened(tab, [], [])
    tab.on("console", lambda message: opened.messages.append(message.text))
    tab.on("pageerror", lambda error: opened.messages.append(str(error)))
    tab.on("request", lambda request: opened.requests.append(request.url))
    tab.goto(path.as_uri())
    tab.wait_for_selector("#lines li")
    return opened


@pytest.fixture
def opened(browser: Browser, page: Page) -> Iterator[Opened]:
    page.write()
    opened = _open(browser, page.reports / "index.html", size=WIDE)
    yield opened
    assert opened.messages == []
    assert opened.requests == [(page.reports / "index.html").as_uri()]
    assert opened.tab.evaluate("window.hacked") is None
    opened.tab.close()


def _field(tab: Tab, name: str) -> Locator:
    return tab.locator(f"#filters [name={name}]")


def _outputs(tab: Tab) -> list[str]:
    return tab.locator("#lines li").first.locator("dt").all_inner_texts()


def test_page_shows_hostile_lines_as_text(opened: Opened, page: Page) -> None:
    sources = opened.tab.locator("#lines dd.source").all_text_contents()
    assert sources == [pair.source for pair in page.pairs]
    assert opened.tab.locator("#lines dd.human").all_text_contents() == [pair.target for pair in page.pairs]
    assert opened.tab.locator("#lines img, #lines b, #lines script, .cards b, .cards i").count() == 0
    assert opened.tab.locator("#lines dd.source").nth(2).evaluate("cell => getComputedStyle(cell).direction") == "rtl"
    assert opened.tab.locator("article .source").inner_text() == "<b>off</b>"


def test_page_sorts_a_table_by_a_heading_and_turns_the_order_around(opened: Opened) -> None:
    table = opened.tab.locator("#methods table")
    heading = table.locator("th", has_text="BLEU").first
    column = heading.evaluate("cell => cell.cellIndex")

    def numbers() -> list[float]:
        return [float(text.split()[0]) for text in table.locator(f"tbody td:nth-child({column + 1})").all_inner_texts()]

    before = numbers()
    heading.get_by_role("button").click()
    assert numbers() == sorted(before, reverse=True) != before
    assert heading.get_attribute("aria-sort") == "descending"
    heading.get_by_role("button").press("Enter")
    assert numbers() == sorted(before)
    gain = table.locator("th", has_text="gain").first
    gain.get_by_role("button").click()
    cells = table.locator(f"tbody td:nth-child({gain.evaluate('cell => cell.cellIndex') + 1})").all_inner_texts()
    assert cells[-2:] == ["", ""]  # no value comes last, whatever the order


def test_page_finds_lines_by_words_and_by_number(opened: Opened) -> None:
    tab = opened.tab
    count, search = tab.locator("#count"), _field(tab, "query")
    assert count.inner_text() == "4 of 4 lines"
    search.fill("TÜR offen")
    assert count.inner_text() == "1 of 4 lines"
    assert tab.locator(".number").all_inner_texts() == ["line 4"]
    search.fill("<script>")
    assert tab.locator(".number").all_inner_texts() == ["line 3"]
    search.fill("nowhere")
    assert count.inner_text() == "0 of 4 lines"
    search.fill("9")
    assert "line 9" in tab.locator(".number").all_inner_texts()


def test_page_filters_lines_and_orders_them_by_what_was_lost(opened: Opened, page: Page) -> None:
    tab, lines = opened.tab, page.content.examples["lines"]
    models = [model["name"] for model in page.content.examples["models"]]
    teacher, own = (2 * models.index(model) for model in ("teacher", "whole-near"))
    scores = {line: (line_scores[teacher], line_scores[own]) for line, _, _, _, line_scores in lines}
    _field(tab, "order").select_option("most lost first")
    shown = [int(text.split()[1]) for text in tab.locator(".number").all_inner_texts()]
    assert shown == sorted(scores, key=lambda line: scores[line][1] - scores[line][0])
    _field(tab, "show").select_option("teacher right, student wrong")
    lost = [line for line, (first, second) in scores.items() if first >= 60 and second <= 40]
    assert tab.locator(".number").count() == len(lost)
    _field(tab, "show").select_option("student changed numbers")
    assert tab.locator("#count").inner_text() == "4 of 4 lines"
    _field(tab, "show").select_option("all lines")
    _field(tab, "words").select_option("more than 20")
    assert tab.locator(".number").all_inner_texts() == ["line 9"]


def test_page_shows_the_chosen_models_by_the_chosen_search(opened: Opened, page: Page) -> None:
    tab = opened.tab
    assert _outputs(tab) == ["source", "human", "teacher", "baseline", "whole-near"]
    tab.locator("#models").get_by_label("prune-0.9").check()
    tab.locator("#models").get_by_label("baseline").uncheck()
    assert _outputs(tab) == ["source", "human", "teacher", "whole-near", "prune-0.9"]
    _field(tab, "student").select_option("words")
    assert _outputs(tab)[-1] == "words"
    _field(tab, "search").select_option("beam 5")
    first = tab.locator("#lines li").first.locator("dd:not(.score)").last
    assert first.text_content() == page.translation("words", beam=5)[0]
    assert first.locator("mark").all_inner_texts() == ["5", "<i>und</i>"]


def test_page_shows_the_numbers_of_a_mark_as_a_tooltip(opened: Opened) -> None:
    mark = opened.tab.locator("#ladder svg [aria-label*='teacher, beam 5']").last
    mark.scroll_into_view_if_needed()
    mark.hover()
    assert opened.tab.locator("#tip").inner_text().startswith("1. teacher, beam 5 (teacher): BLEU 30.0 ± 1.2")
    opened.tab.locator("h1").hover()
    assert opened.tab.locator("#tip").is_hidden()


def test_page_can_be_used_by_keyboard_alone(opened: Opened) -> None:
    tab = opened.tab
    tab.keyboard.press("Tab")
    assert tab.evaluate("document.activeElement.textContent") == "Skip to the examples"
    tab.keyboard.press("Enter")
    _field(tab, "query").focus()
    tab.keyboard.type("offen")
    assert tab.locator("#count").inner_text() == "1 of 4 lines"
    for control in tab.locator("[tabindex], svg, input, select").all():
        assert control.evaluate("control => Boolean(control.closest('label, [aria-label]'))")


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("size", [WIDE, PHONE])
def test_page_is_no_wider_than_the_screen(browser: Browser, page: Page, size: ViewportSize, dark: bool) -> None:
    page.write()
    opened = _open(browser, page.reports / "index.html", size=size, dark=dark)
    assert opened.tab.evaluate("document.documentElement.scrollWidth") == size["width"]
    background = opened.tab.evaluate("getComputedStyle(document.body).backgroundColor")
    assert background == ("rgb(22, 24, 27)" if dark else "rgb(255, 255, 255)")
    assert opened.messages == []
    opened.tab.close()


def test_page_opens_in_a_second_with_3000_lines_and_12_models(browser: Browser, page: Page) -> None:
    outputs = range(12 * 2)  # of 8 models, so with three beams
    lines = [
        [
            line,
            f"source {line} " * 5,
            f"target {line} " * 5,
            [f"output {line} of {each} " * 4 for each in outputs],
            [50] * 24,
        ]
        for line in range(3000)
    ]
    more = {"lines": lines, "searches": ["greedy", "beam 5", "beam 9"]}
    page.content = page.content._replace(examples={**page.content.examples, **more})
    page.write()
    assert (page.reports / "index.html").stat().st_size < 1_500_000
    opened = _open(browser, page.reports / "index.html", size=WIDE)
    assert opened.tab.locator("#count").inner_text() == "3,000 of 3,000 lines"
    ready = opened.tab.evaluate("performance.getEntriesByName('examples-ready')[0].startTime")
    assert ready < 3000  # milliseconds; about 400 on a machine at rest
    assert opened.messages == []
    opened.tab.close()
