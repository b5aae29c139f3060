import random
import re
from collections import defaultdict

import pytest
from source_tree import ROOT

from seqkd.config import records
from seqkd.corpora import synthetic
from seqkd.corpora.cleaning import Cleaned, key
from seqkd.corpora.synthetic import FRAMES, NOUNS, Meaning, Phrase
from seqkd.utils.errors import InputError

RECIPE = synthetic.SyntheticRecipe(kind="grammar", pairs=3000, dev=100, test=150)


def prepared(seed: int = 1, recipe: synthetic.SyntheticRecipe = RECIPE) -> Cleaned:
    return synthetic.prepare(recipe, source="en", target="de", seed=seed)


def german_sentences(meaning: Meaning) -> set[str]:
    """Every German sentence of a meaning, by drawing often."""
    return {synthetic.german(meaning, random.Random(seed)) for seed in range(1000)}


def meaning(*, opener: str = "", tense: str = "past", place: str = "", time: str = "") -> Meaning:
    uncle, cake = Phrase("the", "", "uncle"), Phrase("a", "small", "cake")
    return Meaning(opener, uncle, tense, "bring along/brings along/brought along", None, cake, place, time)


def test_german_has_every_word_order_and_tense_that_is_allowed() -> None:
    drawn = meaning(time="yesterday")
    assert synthetic.english(drawn) == "The uncle brought along a small cake yesterday."
    assert german_sentences(drawn) == {
        "Der Onkel brachte gestern einen kleinen Kuchen mit.",
        "Gestern brachte der Onkel einen kleinen Kuchen mit.",
        "Der Onkel hat gestern einen kleinen Kuchen mitgebracht.",
        "Gestern hat der Onkel einen kleinen Kuchen mitgebracht.",
    }


def test_german_puts_the_verb_of_a_subordinate_clause_last() -> None:
    drawn = meaning(opener="I know that", tense="future", time="on Friday")
    assert synthetic.english(drawn) == "I know that the uncle will bring along a small cake on Friday."
    assert german_sentences(drawn) == {
        "Ich weiß, dass der Onkel am Freitag einen kleinen Kuchen mitbringen wird.",
        "Ich weiß, dass der Onkel am Freitag einen kleinen Kuchen mitbringt.",
    }


def test_german_synonyms_have_their_own_gender_and_case() -> None:
    student = Phrase("her", "", "student")
    drawn = Meaning("", Phrase("", "", "we"), "present", "help/helps/helped", None, student, "", "")
    assert synthetic.english(drawn) == "We help her student."
    assert german_sentences(drawn) == {
        "Wir helfen ihrem Studenten.",
        "Wir helfen ihrer Studentin.",
        "Wir unterstützen ihren Studenten.",
        "Wir unterstützen ihre Studentin.",
        "Ihrem Studenten helfen wir.",
        "Ihren Studenten unterstützen wir.",
    }


def test_german_may_begin_with_a_place_and_puts_a_recipient_in_the_dative() -> None:
    drawn = Meaning(
        opener="",
        subject=Phrase("", "", "I"),
        tense="want to/wants to",
        verb="show/shows/showed",
        recipient=Phrase("a", "", "aunt"),
        object=Phrase("this", "old", "car"),
        place="in town",
        time="",
    )
    assert synthetic.english(drawn) == "I want to show an aunt this old car in town."
    assert {
        "In der Stadt will ich einer Tante dieses alte Auto zeigen.",
        "Ich möchte einer Tante diesen alten Wagen in der Stadt zeigen.",
    } < german_sentences(drawn)


def test_prepare_gives_the_same_pairs_for_a_seed_and_others_for_another() -> None:
    assert prepared() == prepared()
    assert prepared() != prepared(seed=2)


def test_prepare_of_more_train_pairs_leaves_dev_and_test_as_they_are() -> None:
    less = prepared(recipe=RECIPE.model_copy(update={"pairs": 10}))
    assert (less.parts.dev, less.parts.test) == (prepared().parts.dev, prepared().parts.test)


def test_prepare_makes_parts_of_the_size_asked_for_without_repeats() -> None:
    parts = prepared().parts
    assert [len(lines) for lines in parts] == [3000, 100, 150]
    assert len({(line.source, line.target) for lines in parts for line in lines}) == 3250


def test_prepare_puts_no_sentence_of_either_language_into_two_parts() -> None:
    for side in (1, 2):
        parts_of = defaultdict(set)
        for name, lines in prepared().parts._asdict().items():
            for line in lines:
                parts_of[key(line[side])].add(name)
        assert all(len(names) == 1 for names in parts_of.values())


def test_prepare_gives_many_english_sentences_several_german_ones() -> None:
    train = prepared().parts.train
    translations = defaultdict(set)
    for line in train:
        assert line.group == line.source
        translations[line.source].add(line.target)
    assert sum(len(targets) > 1 for targets in translations.values()) > len(translations) / 2


def test_draw_gives_thousands_of_english_sentences() -> None:
    rng = random.Random(1)
    assert len({synthetic.english(synthetic.draw(rng)) for _ in range(8000)}) > 5000


def test_german_articles_have_the_gender_of_their_noun() -> None:
    genders = {form: gender for words in NOUNS.values() for gender, *forms in map(str.split, words) for form in forms}
    endings = {"m": {"er", "en", "em", ""}, "f": {"e", "er"}, "n": {"es", "em", ""}}
    articles = {"m": {"der", "den", "dem"}, "f": {"die", "der"}, "n": {"das", "dem"}}
    phrase = re.compile(
        r"\b(d(?:er|ie|as|en|em)|(?:ein|mein|unser|sein|ihr|dies)(?:e[rnsm]?)?) (?:[a-zöüß]+ )?([A-ZÄÖÜ]\w+)"
    )
    checked = 0
    for line in prepared().parts.train:
        text = line.target[0].lower() + line.target[1:]
        for determiner, noun in phrase.findall(text):
            if noun not in genders:
                continue  # a place or a time
            gender = genders[noun]
            ending = re.sub(r"^(?:ein|mein|unser|sein|ihr|dies)", "", determiner)
            allowed = articles[gender] if determiner.startswith("d") and ending == determiner else endings[gender]
            assert ending in allowed, line.target
            checked += 1
    assert checked > 3000


def test_lexicon_has_all_forms_of_every_verb() -> None:
    for frame in FRAMES:
        for english, verbs in frame.verbs.items():
            assert len(english.split("/")) == 3
            for verb in map(str.split, verbs):
                assert verb[0].endswith("en")
                assert len(verb) == 4 or (len(verb) == 5 and verb[4] == "dat")


@pytest.mark.parametrize(("source", "target"), [("de", "en"), ("en", "fr"), ("th", "en")])
def test_prepare_refuses_other_languages_in_one_sentence(source: str, target: str) -> None:
    with pytest.raises(InputError, match=f"English to German, not {source} to {target}; set data.source to en"):
        synthetic.prepare(RECIPE, source=source, target=target, seed=1)


def test_recipe_of_the_project_is_valid() -> None:
    recipe = records.load(ROOT / "corpora" / "grammar.yaml", synthetic.SyntheticRecipe)
    assert recipe == synthetic.SyntheticRecipe(kind="grammar", pairs=4000, dev=200, test=200)


def test_recipe_that_asks_for_too_much_is_refused_by_its_key() -> None:
    with pytest.raises(InputError, match=r"corpora/x\.yaml: pairs is 1000000"):
        records.parse(
            synthetic.SyntheticRecipe, {"kind": "grammar", "pairs": 10**6, "dev": 1, "test": 1}, where="corpora/x.yaml"
        )
