import random
import subprocess
import sys
from pathlib import Path

import pytest
import sacrebleu

from seqkd.data import vocab
from seqkd.data.normalization import normalize
from seqkd.evaluation import metrics

ODD = [
    *["a", "b", "Haus", "3.5", "1,000", ".", ",", "..", ".,", "-", "3-4", "x-y", "(", ")", "&amp;", "&quot;Hi&quot;"],
    *["<skipped>", "a.", ".a", "'s", "“", "\u00a0", "naïve", "²", "½", "#1", "100%", "v1.2.3", "…", "{x}", "a/b", "5."],
]


def _without(packages: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "find_spec", lambda name: None if name in packages else object())


@pytest.mark.parametrize(
    ("languages", "tokenizer"),
    [
        ("zh zh_CN zh-Hant zh-TW zho_Hans cmn cmn-Hans-CN yue yue_Hant ZH chi lzh nan_Hant", "zh"),
        ("ja ja_JP jpn jpn_Jpan", "ja-mecab"),
        ("ko ko-KR kor kor_Hang", "ko-mecab"),
        ("th th-TH tha_Thai lo lao km khm_Khmr my my_MM mya_Mymr bo bod_Tibt dz shn_Mymr jv_Java", "char"),
        ("de en pt_BR vi fa ar hi ru sr-Latn sr@latin tr hu jv_Latn az", "13a"),
        ("en_TH ms_MY es_BO en-LA pt_MO", "13a"),  # languages of countries whose code is another language's
        ("tht zhx kok mys lob x", "13a"),  # codes that only begin as those above do
    ],
)
def test_tokenizer_follows_the_language(languages: str, tokenizer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    _without((), monkeypatch)
    assert {language: metrics.tokenizer_name(language) for language in languages.split()} == dict.fromkeys(
        languages.split(), tokenizer
    )


@pytest.mark.parametrize(("language", "tokenizer"), [("ja", "ja-mecab"), ("ko", "ko-mecab")])
def test_tokenizer_is_char_where_a_package_of_the_languages_own_is_not_installed(
    language: str, tokenizer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for package in metrics.PACKAGES[tokenizer]:
        _without((package,), monkeypatch)
        assert metrics.tokenizer_name(language) == "char"
        assert metrics.tokenizer_name("zh") == "zh"


def test_tokenizer_name_loads_no_tokenizer() -> None:
    packages = [package for names in metrics.PACKAGES.values() for package in names]
    code = (
        "import sys; from seqkd.evaluation import metrics; [*map(metrics.tokenizer_name, ('ja', 'ko', 'zh'))]; "
        f"print([name for name in {packages} if name in sys.modules])"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "[]\n"


def test_tokenize_gives_the_words_of_sacrebleus_13a_for_any_text() -> None:
    tokenizer = sacrebleu.BLEU(tokenize="13a").tokenizer
    generator = random.Random(1)
    for _ in range(5000):
        pieces = [generator.choice(ODD) + generator.choice(["", " ", "  "]) for _ in range(generator.randint(0, 9))]
        text = "".join(pieces)
        assert metrics.tokenize(text, tokenizer="13a") == tokenizer(text.rstrip()).split(), text


def test_tokenize_splits_languages_without_spaces() -> None:
    assert metrics.tokenize("我喜欢 3.5 只猫。 ", tokenizer="zh") == ["我", "喜", "欢", "3.5", "只", "猫", "。"]
    assert metrics.tokenize("สวัสดี ab", tokenizer="char") == ["ส", "ว", "ั", "ส", "ด", "ี", "a", "b"]


@pytest.mark.parametrize("tokenizer", ["13a", "zh", "char"])
def test_corpus_scores_carry_the_signature_that_makes_them_comparable(tokenizer: str) -> None:
    hypotheses, references = (
        ["ein Haus am See", "我喜欢小猫，也喜欢狗。"],
        ["ein Haus am Meer", "我喜欢大猫，也喜欢狗。"],
    )
    found = metrics.bleu(hypotheses, references, tokenizer=tokenizer)
    assert found.value == sacrebleu.corpus_bleu(hypotheses, [references], tokenize=tokenizer).score
    assert metrics.chrf(hypotheses, references).value == sacrebleu.corpus_chrf(hypotheses, [references]).score
    assert found.signature.startswith(f"nrefs:1|case:mixed|eff:no|tok:{tokenizer}|smooth:exp|version:")
    assert metrics.bleu_from_counts([0] * 10, tokenizer=tokenizer).signature == found.signature
    chrf = metrics.chrf(hypotheses, references).signature
    assert chrf.startswith("nrefs:1|case:mixed|eff:yes|nc:6|nw:0|space:no|version:")


def test_bleu_refuses_a_hypothesis_without_a_reference() -> None:
    with pytest.raises(ValueError, match="2 hypotheses against 1 references"):
        metrics.bleu(["a", "b"], ["a"], tokenizer="13a")


def test_length_ratio_counts_words_not_letters() -> None:
    assert metrics.length_ratio(["Ja.", "sehr gut"], ["Ja!", "gut"], tokenizer="13a") == 4 / 3
    assert metrics.length_ratio(["我喜欢猫"], ["我爱猫"], tokenizer="zh") == 4 / 3
    assert metrics.length_ratio(["สวัสดี ab"], ["สวัส"], tokenizer="char") == 8 / 4


PERFECT = {
    "zh": "你好，世界！他说：“真的吗？”（是的）…… 共１０个；３０％。",
    "zho_Hant": "請稍候，裝置「客廳」正在連線……︰①②③ 10 ㎡",
    "ja": "こんにちは、世界！ｶﾀｶﾅとカタカナ、㈱と～。",
    "ko": "안녕하세요, 세계! ‘방’은 10㎡입니다…",
    "th": "สวัสดีชาวโลก กำลังเชื่อมต่อ… ๑๐๐% ครับ",
    "my": "မင်္ဂလာပါ ကမ္ဘာကြီး။ ၁၀ ခု",
    "km": "សួស្តី\u200bពិភពលោក។ ១០",
    "lo": "ສະບາຍດີ ຊາວໂລກ ໆ",
    "bo": "བཀྲ་ཤིས་བདེ་ལེགས། ༡༠ དང་།",
    "fa": "سلام دنیا؛ می\u200cخواهم ۱۰٪ «همین» را؟",
    "vi": "Xin chào thế giới… “Được” – 10²",
    "hi": "नमस्ते दुनिया। क्\u200dष १० है…",
    "de": "Warte 3½ Minuten … „Gut“ – 10² m™ ﬁn",
}


@pytest.mark.parametrize("language", PERFECT)
def test_perfect_translation_scores_100_in_every_language(language: str, tmp_path: Path) -> None:
    references = [PERFECT[language], normalize(PERFECT[language][::2])]
    size = 4 + 256 + len(set("▁".join(references))) + 1  # special pieces, bytes, characters, a pair of characters
    pieces = vocab.train(references, tmp_path / "joint.model", size=size, byte_fallback=True)
    answers = [pieces.decode(pieces.encode(text), text) for text in references]
    tokenizer = metrics.tokenizer_name(language)
    found = metrics.bleu(answers, references, tokenizer=tokenizer)
    assert answers == references
    assert found.value == pytest.approx(100)
    assert f"|tok:{tokenizer}" in found.signature
    assert metrics.chrf(answers, references).value == pytest.approx(100)
    assert metrics.length_ratio(answers, references, tokenizer=tokenizer) == 1


def test_half_width_punctuation_for_full_width_costs_points_but_not_all() -> None:
    perfect, half_width = ["你好，世界。我们走吧，好吗？"], ["你好,世界.我们走吧,好吗?"]
    assert metrics.bleu(half_width, perfect, tokenizer="13a").value < 1
    assert 20 < metrics.bleu(half_width, perfect, tokenizer="zh").value < 90
