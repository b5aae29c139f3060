import random

import pytest
import sacrebleu

from seqkd.evaluation import metrics

ODD = [
    *["a", "b", "Haus", "3.5", "1,000", ".", ",", "..", ".,", "-", "3-4", "x-y", "(", ")", "&amp;", "&quot;Hi&quot;"],
    *["<skipped>", "a.", ".a", "'s", "“", "\u00a0", "naïve", "²", "½", "#1", "100%", "v1.2.3", "…", "{x}", "a/b", "5."],
]


def test_tokenize_gives_the_words_of_sacrebleus_13a_for_any_text() -> None:
    tokenizer = sacrebleu.BLEU(tokenize="13a").tokenizer
    generator = random.Random(1)
    for _ in range(5000):
        pieces = [generator.choice(ODD) + generator.choice(["", " ", "  "]) for _ in range(generator.randint(0, 9))]
        text = "".join(pieces)
        assert metrics.tokenize(text) == tokenizer(text.rstrip()).split(), text


def test_corpus_scores_carry_the_signature_that_makes_them_comparable() -> None:
    hypotheses, references = ["ein Haus am See", "gut"], ["ein Haus am Meer", "gut"]
    assert metrics.bleu(hypotheses, references).value == sacrebleu.corpus_bleu(hypotheses, [references]).score
    assert metrics.chrf(hypotheses, references).value == sacrebleu.corpus_chrf(hypotheses, [references]).score
    bleu, chrf = metrics.bleu(hypotheses, references).signature, metrics.chrf(hypotheses, references).signature
    assert bleu.startswith("nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:")
    assert chrf.startswith("nrefs:1|case:mixed|eff:yes|nc:6|nw:0|space:no|version:")


def test_bleu_refuses_a_hypothesis_without_a_reference() -> None:
    with pytest.raises(ValueError, match="2 hypotheses against 1 references"):
        metrics.bleu(["a", "b"], ["a"])


def test_length_ratio_counts_words_not_letters() -> None:
    assert metrics.length_ratio(["Ja.", "sehr gut"], ["Ja!", "gut"]) == 4 / 3
