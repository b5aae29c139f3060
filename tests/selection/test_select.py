import random
from functools import partial
from pathlib import Path
from typing import get_args

import pytest
import sacrebleu

from seqkd.config.schema import SelectSettings
from seqkd.data import nbest, vocab
from seqkd.data.bitext import Pair
from seqkd.data.nbest import Hypothesis
from seqkd.evaluation import metrics
from seqkd.selection import audit, select
from seqkd.selection.audit import SelectionStats
from seqkd.utils import pool
from seqkd.utils.errors import InputError

BLEU, SCORE = SelectSettings(nbest="k35", metric="bleu"), SelectSettings(nbest="k5", metric="score")
WORDS = ["der", "die", "Hund", "Katze", "schläft", "3.5", "am", "See.", "(ja)", "e.g.,", "a-b", "&amp;"]


def _best_rank(texts: list[str], reference: str, settings: SelectSettings) -> int:
    (scored,) = select.score([texts], [reference], settings, tokenizer="13a")
    return scored.best_rank


def test_score_prefers_the_text_closest_to_the_reference() -> None:
    texts = ["eine Katze schläft", "der Hund schläft", "der Hund schläft am See", "ein Hund"]
    assert _best_rank(texts, "der Hund schläft am See", BLEU) == 2
    assert _best_rank(texts, "der Hund schläft am See", SelectSettings(nbest="k35", metric="chrf")) == 2
    assert _best_rank(texts, "der Hund schläft am See", SCORE) == 0


def test_score_prefers_the_lower_rank_of_equally_close_texts() -> None:
    assert _best_rank(["x", "der Hund", "der Hund", "Hund der"], "der Hund", BLEU) == 1
    assert _best_rank(["u", "v", "w"], "der Hund", BLEU) == 0


@pytest.mark.parametrize("metric", get_args(SelectSettings.model_fields["metric"].annotation))
def test_score_prefers_an_empty_text_only_to_other_empty_ones(metric: str) -> None:
    settings = SelectSettings.model_validate({"nbest": "k5", "metric": metric})
    assert _best_rank(["", "xyz", "v"], "der Hund", settings) == 1
    assert _best_rank(["", ""], "der Hund", settings) == 0


def test_score_by_chrf_is_sacrebleus() -> None:
    texts = ["der Hunde", "ein Hund"]
    (scored,) = select.score([texts], ["der Hund"], SelectSettings(nbest="k5", metric="chrf"), tokenizer="13a")
    assert scored.scores == [sacrebleu.sentence_chrf(text, ["der Hund"]).score for text in texts]


def test_score_rates_lists_of_different_lengths_each_against_its_own_reference() -> None:
    lists, references = [["ein Hund"], ["die Katze", "der Hund", "Hund"]], ["ein Hund", "der Hund"]
    first, second = select.score(lists, references, BLEU, tokenizer="13a")
    assert first.scores == pytest.approx([100.0])
    assert second.scores[1] == pytest.approx(100.0)
    assert (first.best_rank, second.best_rank) == (0, 1)
    assert second.counts.tolist() == [
        [2, 2, 0, 0, 0, 0, 2, 1, 0, 0],
        [2, 2, 2, 1, 0, 0, 2, 1, 0, 0],
        [1, 2, 1, 0, 0, 0, 1, 0, 0, 0],
    ]


@pytest.fixture(scope="module")
def lists(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, list[Pair]]:
    """An n-best list of 1200 lines, its vocabulary and the reference pairs."""
    folder = tmp_path_factory.mktemp("lists")
    generator = random.Random(3)
    pairs = [Pair(3 * line, "", " ".join(generator.choices(WORDS, k=6))) for line in range(1200)]
    pieces = vocab.train([pair.target for pair in pairs], folder / "joint.model", size=60)
    for index in range(2):
        entries = []
        for pair in pairs[nbest.positions(index)]:
            texts = [" ".join(generator.choices(WORDS, k=6)), "", pair.target, pair.target]
            ids = [tuple(pieces.encode(text)) for text in texts]
            entries.append((pair, [Hypothesis(ids[rank], -1.0 - rank, rank < 3) for rank in range(4)]))
        nbest.write_part(folder, index, entries)
    return folder, folder / "joint.model", pairs


@pytest.mark.parametrize("processes", [1, 2])
def test_choose_gives_a_text_and_the_audit_of_all_parts(lists: tuple[Path, Path, list[Pair]], processes: int) -> None:
    folder, model, pairs = lists
    stats, chosen = SelectionStats(), list[Pair]()
    choose = partial(select.choose, model=model, settings=BLEU, tokenizer="13a")
    parts = select.parts(folder, pairs, lines=1200)
    for part_pairs, part_stats in pool.map_ordered(choose, parts, processes=processes):
        chosen += part_pairs
        stats.add(part_stats)
    assert chosen == pairs
    result = audit.summarize(stats, "closest", BLEU, tokenizer="13a")
    assert result.lines == 1200
    assert result.ranks == [0, 0, 1200, 0]
    assert result.hypotheses_per_line.model_dump() == {"least": 4, "mean": 4.0, "most": 4, "distinct": 3.0}
    assert result.bleu_chosen == 100.0
    assert result.bleu_first is not None
    assert result.oracle_gain == pytest.approx(100.0 - result.bleu_first)
    assert result.length_ratio is not None
    assert result.length_ratio.chosen == 1.0
    assert result.chosen == {"empty": 0.0, "truncated": 0.0, "unknown": 0.0}
    assert result.all == {"empty": 0.25, "truncated": 0.25, "unknown": 0.0}
    assert "1,200 lines" in audit.describe(result)


def test_choose_counts_the_corpus_bleu_of_its_texts(lists: tuple[Path, Path, list[Pair]]) -> None:
    folder, model, pairs = lists
    chosen, stats = select.choose(
        next(select.parts(folder, pairs, lines=1200)), model=model, settings=SCORE, tokenizer="13a"
    )
    targets = [pair.target for pair in pairs[:1000]]
    assert metrics.bleu_from_counts(stats.chosen, tokenizer="13a") == pytest.approx(
        metrics.bleu([pair.target for pair in chosen], targets, tokenizer="13a")
    )
    assert stats.chosen == stats.first


@pytest.mark.parametrize(
    ("language", "human", "other"),
    [
        ("de", "Bitte warten Sie hier…", "Bitte warten Sie hier..."),
        ("de", "Der Raum hat 10² m.", "Der Raum hat 102 m."),
        ("de", "Drücken Sie die Taste", "Drucken Sie die Taste"),
        ("fa", "من همین را می\u200cخواهم", "من همین را می خواهم"),
        ("zh_CN", "你好，世界。我们走吧", "你好,世界.我们走吧"),
        ("th", "สวัสดีชาวโลก", "สวสดีชาวโลก"),
        ("ja", "こんにちは、世界！", "こんにちは,世界!"),
    ],
)
@pytest.mark.parametrize("metric", ["bleu", "chrf"])
def test_choose_takes_the_hypothesis_that_is_the_human_line(
    language: str, human: str, other: str, metric: str, tmp_path: Path
) -> None:
    pair = Pair(7, "", human)
    size = 4 + 256 + len(set("▁" + human + other)) + 1  # special pieces, bytes, characters, a pair of characters
    pieces = vocab.train([human, other], tmp_path / "joint.model", size=size, byte_fallback=True)
    hypotheses = [Hypothesis(tuple(pieces.encode(text)), -1.0, True) for text in (other, human)]
    path = nbest.write_part(tmp_path, 0, [(pair, hypotheses)])
    settings = SelectSettings.model_validate({"nbest": "k5", "metric": metric})
    tokenizer = metrics.tokenizer_name(language)
    chosen, stats = select.choose(
        select.Part(path, [pair]), model=tmp_path / "joint.model", settings=settings, tokenizer=tokenizer
    )
    assert chosen == [pair]
    assert stats.ranks == {1: 1}
    assert metrics.bleu_from_counts(stats.chosen, tokenizer=tokenizer).value == pytest.approx(100)


def test_choose_compares_and_writes_the_placeholders_of_each_source(tmp_path: Path) -> None:
    pairs = [Pair(0, "{a} of %s", "von %s der {a}"), Pair(1, "%d of {{b}}", "von {{b}} der %d")]
    pieces = vocab.train([side for pair in pairs for side in pair[1:]] * 9, tmp_path / "joint.model", size=22)
    entries = []
    for pair in pairs:
        texts = (f"{' '.join(reversed(pair.target.split()))}", pair.target)
        ids = [tuple(pieces.encode(text, pair.source)) for text in texts]
        entries.append((pair, [Hypothesis(each, -1.0, True) for each in ids]))
    path = nbest.write_part(tmp_path, 0, entries)
    chosen, stats = select.choose(
        select.Part(path, pairs), model=tmp_path / "joint.model", settings=BLEU, tokenizer="13a"
    )
    assert chosen == pairs
    assert not stats.causes


def test_decode_all_gives_what_decode_gives_for_each_line(lists: tuple[Path, Path, list[Pair]]) -> None:
    pieces = vocab.load(lists[1])
    many = [pieces.encode(pair.target) for pair in lists[2][:50]] + [[], [vocab.UNK, vocab.EOS, 7], [vocab.PAD]]
    assert pieces.decode_all(many, [""] * 53) == [pieces.decode(ids, "") for ids in many]
    assert pieces.decode_all([], []) == []


def test_choose_refuses_a_list_of_another_text(lists: tuple[Path, Path, list[Pair]]) -> None:
    folder, model, pairs = lists
    other = [*pairs[:500], *pairs[501:], Pair(9999, "", "x")]
    with pytest.raises(InputError, match="id 1500 stands where the text has id 1503"):
        select.choose(next(select.parts(folder, other, lines=1200)), model=model, settings=BLEU, tokenizer="13a")


def test_parts_refuses_a_text_with_more_or_fewer_lines_than_were_counted(
    lists: tuple[Path, Path, list[Pair]],
) -> None:
    folder, _, pairs = lists
    for other in (pairs[:900], [*pairs, *pairs]):
        with pytest.raises(ValueError, match="zip"):
            list(select.parts(folder, other, lines=1200))


def test_parts_reads_no_more_of_a_text_than_it_needs(lists: tuple[Path, Path, list[Pair]]) -> None:
    folder, _, pairs = lists
    text = iter(pairs)
    parts = select.parts(folder, text, lines=1200)
    assert next(parts).pairs == pairs[:1000]
    assert next(text) == pairs[1000]


def test_choose_repeats_a_lines_texts_as_often_as_the_row_says(lists: tuple[Path, Path, list[Pair]]) -> None:
    """Three different texts a line: the human one at rank 2, a random one, an empty one, which scores worst."""
    folder, model, pairs = lists
    part = next(select.parts(folder, pairs, lines=1200))
    times = BLEU.model_copy(update={"times": [3, 1]})
    chosen, stats = select.choose(part, model=model, settings=times, tokenizer="13a")
    once, _ = select.choose(part, model=model, settings=BLEU, tokenizer="13a")
    assert [pair for number, pair in enumerate(chosen) if number % 4 == 0] == once == pairs[:1000]
    assert chosen[:3] == [pairs[0]] * 3
    assert chosen[3].id == pairs[0].id
    assert chosen[3].target not in ("", pairs[0].target)
    assert len(chosen) == 4 * 1000
    assert stats.ranks == {2: 1000}


def test_choose_drops_each_text_with_a_fault_of_the_row(lists: tuple[Path, Path, list[Pair]]) -> None:
    folder, model, pairs = lists
    part = next(select.parts(folder, pairs, lines=1200))
    times = BLEU.model_copy(update={"times": [1, 1, 1, 5], "drop": ["empty"]})
    chosen, _ = select.choose(part, model=model, settings=times, tokenizer="13a")
    assert len(chosen) == 2 * 1000
    assert all(pair.target for pair in chosen)
