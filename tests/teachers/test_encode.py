from pathlib import Path

import pytest

from seqkd.config.schema import SelectSettings
from seqkd.data import bitext, list_origin, nbest, text_lists, vocab
from seqkd.data.bitext import Pair
from seqkd.data.text_lists import TextHypothesis
from seqkd.selection import audit, select
from seqkd.teachers import encode
from seqkd.utils.errors import InputError

PAIRS = [Pair(3 * n, f"house {n}", f"ein Haus mit {n} Türen") for n in range(1100)]  # two parts


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A text, a vocabulary and the lists of two teachers: the good one's second hypothesis is the human target."""
    bitext.write(tmp_path / "text.tsv", PAIRS)
    vocab.train([pair.target for pair in PAIRS], tmp_path / "vocab.model", size=60)
    for name, texts in (("good", ["ein Haus", "{}"]), ("bad", ["Haus Haus Haus Haus Haus"])):
        for index, pairs in enumerate(nbest.chunks(PAIRS)):
            lists = [(p, [TextHypothesis(text.format(p.target), None) for text in texts]) for p in pairs]
            entries = [(pair, text_lists.to_nbest(hypotheses)) for pair, hypotheses in lists]
            nbest.write_part(tmp_path / name, index, entries)
    return tmp_path


def write(project: Path, *teachers: str, most: int | None = None, processes: int = 1) -> list_origin.ListOrigin:
    lists = {name: project / name for name in teachers}
    options = {"vocabulary": project / "vocab.model", "processes": processes}
    return encode.write(lists, project / "text.tsv", project / "nbest", most=most, **options)  # type: ignore[arg-type]


def choose(project: Path, **settings: object) -> tuple[list[Pair], audit.Audit]:
    row = SelectSettings.model_validate({"nbest": "row", "metric": "bleu", **settings})
    stats, chosen = audit.SelectionStats(), list[Pair]()
    for part in select.parts(project / "nbest", bitext.stream(project / "text.tsv"), lines=len(PAIRS)):
        pairs, own = select.choose(part, model=project / "vocab.model", settings=row, tokenizer="13a", script="LATIN")
        chosen += pairs
        stats.add(own)
    return chosen, audit.summarize(stats, "row", row, tokenizer="13a", origin=list_origin.read(project / "nbest"))


def test_lists_come_back_from_the_pieces_as_they_were(project: Path) -> None:
    origin = write(project, "good")
    assert (origin.hypotheses, origin.changed) == (2200, 0)
    chosen, result = choose(project)
    assert chosen == PAIRS
    assert result.teachers == {"good": 1100}


def test_lists_have_the_same_bits_for_any_number_of_processes(project: Path) -> None:
    write(project, "good", "bad")
    before = {path.name: path.read_bytes() for path in (project / "nbest").iterdir()}
    write(project, "good", "bad", processes=2)
    assert {path.name: path.read_bytes() for path in (project / "nbest").iterdir()} == before


def test_texts_that_the_vocabulary_changes_are_counted_and_shown(project: Path) -> None:
    vocab.train(["Haus und Hof"], project / "vocab.model", size=20)
    origin = write(project, "good", most=1)
    assert (origin.hypotheses, origin.changed) == (1100, 1100)
    assert len(origin.examples) == encode.EXAMPLES
    assert origin.examples[0][0] == "ein Haus"
    assert "1,100 do not come back the same" in encode.describe(origin)


def test_hypotheses_have_the_numbers_of_their_sources_placeholders(tmp_path: Path) -> None:
    pair = Pair(0, "{a} of %s", "%s hat {a}")
    bitext.write(tmp_path / "text.tsv", [pair])
    pieces = vocab.train([*pair[1:], "b c"] * 9, tmp_path / "vocab.model", size=22)
    hypotheses = [TextHypothesis(text, None) for text in ("%s hat {a}", "{a} hat {a}")]
    nbest.write_part(tmp_path / "own", 0, [(pair, text_lists.to_nbest(hypotheses))])
    assert write(tmp_path, "own").changed == 0
    ((_, lists),) = nbest.read_part(nbest.part_path(tmp_path / "nbest", 0), [pair])
    assert [[id for id in each.ids if id in (4, 5)] for each in lists] == [[5, 4], [4, 4]]
    assert pieces.decode(lists[0].ids, "%d of {x}") == "{x} hat %d"


def test_lists_of_several_teachers_are_joined_line_by_line_and_the_audit_says_whose_were_taken(project: Path) -> None:
    assert write(project, "bad", "good").hypotheses == 3300
    chosen, by_metric = choose(project)
    assert chosen == PAIRS
    assert by_metric.teachers == {"bad": 0, "good": 1100}
    _, by_rank = choose(project, metric="score")
    assert by_rank.teachers == {"bad": 1100, "good": 0}
    assert "Chosen texts by teacher: bad 1,100, good 0" in audit.describe(by_rank)


def test_texts_that_teach_badly_are_counted_and_left_out_where_the_row_says_so(project: Path) -> None:
    write(project, "bad")
    chosen, result = choose(project, metric="score")
    assert len(chosen) == 1100
    assert result.causes == {"repetition": 1100}
    with pytest.raises(InputError, match="no line is left"):
        choose(project, metric="score", drop=["repetition"])


def test_lines_without_a_human_target_are_left_out_where_the_metric_needs_one(project: Path) -> None:
    write(project, "good")
    half = [pair._replace(target="" if pair.id % 2 else pair.target) for pair in PAIRS]
    bitext.write(project / "text.tsv", half)
    chosen, result = choose(project)
    assert chosen == [pair for pair in PAIRS if not pair.id % 2]
    assert (result.compared, result.without_target) == (550, 550)
    chosen, result = choose(project, metric="score")
    assert len(chosen) == 1100
    assert (result.compared, result.without_target) == (550, 0)


def test_audit_without_any_human_target_has_no_bleu(project: Path) -> None:
    write(project, "good")
    bitext.write(project / "text.tsv", [pair._replace(target="") for pair in PAIRS])
    _, result = choose(project, metric="score")
    assert (result.bleu_chosen, result.oracle_gain, result.length_ratio) == (None, None, None)
    assert "BLEU" not in audit.describe(result)


def test_list_of_another_text_is_refused(project: Path) -> None:
    bitext.write(project / "text.tsv", [pair._replace(source=f"{pair.source}!") for pair in PAIRS])
    with pytest.raises(InputError, match="id 0 has the list of another source than the text's"):
        write(project, "good")
