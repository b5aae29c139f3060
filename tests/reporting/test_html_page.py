import base64
import csv
import gzip
import hashlib
import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from typing import Any

import pytest
from page_project import Page

from seqkd.reporting import examples, html_page, table_text
from seqkd.utils.errors import InputError


def _examples(text: str) -> dict[str, Any]:
    packed = re.search(r'id="examples-data">([^<]*)<', text)
    assert packed is not None
    content: dict[str, Any] = json.loads(gzip.decompress(base64.b64decode(packed[1])))
    return content


class _Tags(HTMLParser):
    """The tags of a page, and its attributes that name something to load."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.loads: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.loads += [value or "" for name, value in attrs if name in ("src", "href", "xlink:href", "data", "action")]


def test_html_page_holds_the_tables_the_audits_and_the_data(page: Page) -> None:
    text = page.write()
    assert "80% of the way" in text
    assert "Better than the baseline (paired bootstrap, p &lt; 0.01)" in text
    assert "takes for each of 100 lines" in text
    assert "(+5.2)" in text
    assert "<dt>packages licence</dt><dd>MIT</dd>" in text
    assert "too &lt;long&gt;" in text


def test_html_page_shows_every_number_of_the_tables(page: Page) -> None:
    """Each cell rounds the number that its file holds, and shows half the interval that stands beside it there."""
    text = page.write()
    for name in ("table1", "table2", "table3", "ladder", "faults"):
        with (page.reports / f"{name}.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        columns = [column for column in rows[0] if re.sub(r"_\d+$", "", column) in table_text.READABLE]
        caption = {"ladder": "The ladder", "faults": "Test lines"}.get(name, f"Table {name[-1]}")
        body = text.split(f"<caption>{caption}")[1].partition("</table>")[0]
        cells = re.findall(r'data-value="([^"]*)">([^<]*)</td>', body)
        expected = [(column, row) for row in rows for column in columns]
        for (column, row), (value, shown) in zip(expected, cells, strict=True):
            assert value == row[column] or float(value) == float(row[column])
            interval = row.get(re.sub(r"(_\d+)?$", r"_ci\1", column, count=1))
            if shown and interval and column != "step":
                assert f"±{float(interval):.1f}" in shown
            if re.match("bleu_|chrf_", column):
                assert shown.startswith(f"{float(value):.1f}")


def test_html_page_packs_the_test_lines_as_they_are(page: Page) -> None:
    found = _examples(page.write())
    assert found["best"] == "whole-near"
    assert found["searches"] == ["greedy", "beam 5"]
    assert [model["kind"] for model in found["models"]][-3:] == ["student", "pruned", "pruned"]
    lines = [(line, source, target) for line, source, target, *_ in found["lines"]]
    assert lines == [tuple(pair) for pair in page.pairs]
    *_, texts, scores = found["lines"][1]
    assert len(texts) == len(scores) == 2 * len(found["models"])
    assert texts[2 * 4 + 1] == page.translation("whole", beam=5)[1]
    assert scores[0] == 18  # 17.5 of the file of sentence scores


def test_html_page_shows_a_hostile_corpus_as_text(page: Page) -> None:
    parsed = _Tags()
    parsed.feed(page.write())
    assert parsed.tags.count("script") == 2
    assert not {"img", "iframe", "object", "embed", "link", "base"} & set(parsed.tags)
    assert all(address.startswith("#") for address in parsed.loads)
    assert any("<script>" in source for _, source, _ in page.pairs)


def test_html_page_allows_its_own_script_alone(page: Page) -> None:
    text = page.write()
    script = text.split("<script>")[-1].partition("</script>")[0]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'" in text


def test_html_page_has_the_same_bytes_for_the_same_results(page: Page) -> None:
    assert page.write() == page.write()


def test_html_page_shows_the_lines_that_fit(page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = examples.pack(page.content.examples)[0]
    monkeypatch.setattr(examples, "MAX_BYTES", len(whole) - 1)
    text = page.write()
    shown = len(_examples(text)["lines"])
    assert 0 < shown < len(page.pairs)
    assert f"The first {shown} of {len(page.pairs)} test lines." in text


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda record: record.pop("hypotheses_per_line"), "hypotheses_per_line is missing"),
        (lambda record: record.update(settings={}), "settings.nbest is missing"),
        (lambda record: record["settings"].update(metric="x"), "settings.metric is 'x'"),
        (lambda record: record.update(lines=0), "lines is 0"),
        (lambda record: record.update(ranks=[10**300]), "ranks.0 is 100000000000000000...0000000000000000000"),
    ],
)
def test_html_page_refuses_an_edited_audit_by_file_and_key(
    page: Page, change: Callable[[dict[str, Any]], object], message: str
) -> None:
    path = page.reports / "audit" / "near.json"
    record = json.loads(path.read_text())
    change(record)
    path.write_text(json.dumps(record))
    with pytest.raises(InputError, match=f"^{re.escape(f'{path}: {message}; make it anew with dvc repro.')}$"):
        page.write()


@pytest.mark.parametrize(
    "change",
    [("closed_5", "clsoed_5"), ("\nbaseline", "\nbaselime"), ("text", "test"), ("28", "x"), ("bleu_ci_1", "ci")],
)
def test_html_page_refuses_an_edited_table_1(page: Page, change: tuple[str, str]) -> None:
    path = page.reports / "table1.csv"
    path.write_text(path.read_text().replace(*change))
    with pytest.raises(InputError, match=r"table1\.csv: not a table that seqkd wrote; make it anew with dvc repro\.$"):
        page.write()


@pytest.mark.parametrize("name", ["table2.csv", "ladder.csv", "faults.csv", "plots/kinds.svg"])
def test_html_page_refuses_reports_without_a_part_of_it(page: Page, name: str) -> None:
    before = page.write()
    (page.reports / name).unlink()
    with pytest.raises(InputError, match=rf"{name}: no such (table|chart) yet; run dvc repro\.$"):
        page.write()
    assert (page.reports / "index.html").read_text() == before


@pytest.mark.parametrize("edit", [("id", "number"), (".5", "x"), ("\n3,", "\n3,7,\n"), ("17.5", "170.5")])
def test_html_page_refuses_edited_sentence_scores(page: Page, edit: tuple[str, str]) -> None:
    path = page.reports / "evidence" / "sentences.csv"
    path.write_text(path.read_text().replace(*edit) if edit[0] != "id" else "id\n")
    with pytest.raises(InputError, match=r"sentences\.csv: not the sentence scores of this "):
        page.build()


def test_answers_are_those_of_the_ladder(page: Page) -> None:
    good, fast, small, sure = html_page.answers(page.content.evidence, [100.0, 400.0, 1200.0, 1300.0, 1400.0])
    assert (good.figure, fast.figure, small.figure, sure.figure) == ("26.5 BLEU", "12 times", "1.00 MB", "±1.2 BLEU")
    assert "0.25 MB as the smallest one, prune-0.5 in int8" in small.sentence
    assert sure.sentence == "on 4 lines (95 %); better than the baseline, p = 0.001."
    unmeasured = html_page.answers(page.content.evidence, [float("nan")] * 5)
    assert [answer.question for answer in unmeasured] == ["How good?", "How small?", "How sure?"]


@pytest.mark.parametrize(
    ("score", "p", "verdict"), [(19.0, 0.01, "worse than"), (26.0, 0.2, "not surely another than")]
)
def test_answers_say_better_only_where_the_test_does(page: Page, score: float, p: float, verdict: str) -> None:
    evidence = page.content.evidence.model_copy(deep=True)
    own = evidence.certainty["whole-near"]["5"]["bleu"]
    evidence.certainty["whole-near"]["5"]["bleu"] = own.model_copy(update={"score": score, "p": {"baseline": p}})
    *_, sure = html_page.answers(evidence, [float("nan")] * 5)
    assert sure.sentence == f"on 4 lines (95 %); {verdict} the baseline, p = {p:.3f}."
