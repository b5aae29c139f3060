import random
import re
from collections import defaultdict
from pathlib import Path

import pytest

from seqkd.config import schema
from seqkd.corpora import synthetic
from seqkd.corpora.cleaning import Cleaned, key
from seqkd.corpora.lexicon import FRAMES, NOUNS
from seqkd.corpora.synthetic import Meaning, Phrase
from seqkd.utils.errors import InputError

RECIPE = synthetic.SyntheticRecipe(kind="grammar", pairs=3000, dev=100, test=150)


def prepared(seed: int = 1, recipe: synthetic.SyntheticRecipe = RECIPE) -> Cleaned:
    return synthetic.prepare(recipe, source="en", target="de", seed=seed)


def germans(meaning: Meaning) -> set[str]:
    """Every German of a meaning, by drawing often."""
    return {synthetic.german(meaning, random.Random(seed)) for seed in range(1000)}


def meaning(*, opener: str = "", tense: str = "past", place: str = "", time: str = "") -> Meaning:
    uncle, cake = Phrase("the", "", "uncle"), Phrase("a", "small", "cake")
    return Meaning(opener, uncle, tense, "bring along/brings along/brought along", None, cake, place, time)


def test_a_sentence_has_every_order_and_tense_that_german_allows() -> None:
    said = meaning(time="yesterday")
    assert synthetic.english(said) == "The uncle brought along a small cake yesterday."
    assert germans(said) == {
        "Der Onkel brachte gestern einen kleinen Kuchen mit.",
        "Gestern brachte der Onkel einen kleinen Kuchen mit.",
        "Der Onkel hat gestern einen kleinen Kuchen mitgebracht.",
        "Gestern hat der Onkel einen kleinen Kuchen mitgebracht.",
    }


def test_the_verb_of_a_subordinate_clause_stands_last() -> None:
    said = meaning(opener="I know that", tense="future", time="on Friday")
    assert synthetic.english(said) == "I know that the uncle will bring along a small cake on Friday."
    assert germans(said) == {
        "Ich weiß, dass der Onkel am Freitag einen kleinen Kuchen mitbringen wird.",
        "Ich weiß, dass der Onkel am Freitag einen kleinen Kuchen mitbringt.",
    }


def test_synonyms_bring_their_own_gender_case_and_place() -> None:
    student = Phrase("her", "", "student")
    said = Meaning("", Phrase("", "", "we"), "present", "help/helps/helped", None, student, "", "")
    assert synthetic.english(said) == "We help her student."
    assert germans(said) == {
        "Wir helfen ihrem Studenten.",
        "Wir helfen ihrer Studentin.",
        "Wir unterstützen ihren Studenten.",
        "Wir unterstützen ihre Studentin.",
        "Ihrem Studenten helfen wir.",
        "Ihren Studenten unterstützen wir.",
    }


def test_a_place_may_open_the_sentence_and_a_recipient_stands_in_the_dative() -> None:
    said = Meaning(
        opener="",
        subject=Phrase("", "", "I"),
        tense="want to/wants to",
        verb="show/shows/showed",
        recipient=Phrase("a", "", "aunt"),
        object=Phrase("this", "old", "car"),
        place="in town",
        time="",
    )
    assert synthetic.english(said) == "I want to show an aunt this old car in town."
    assert {
        "In der Stadt will ich einer Tante dieses alte Auto zeigen.",
        "Ich möchte einer Tante diesen alten Wagen in der Stadt zeigen.",
    } < germans(said)


def test_a_seed_gives_the_same_pairs_and_another_seed_others() -> None:
    assert prepared() == prepared()
    assert prepared() != prepared(seed=2)


def test_more_train_pairs_leave_dev_and_test_as_they_are() -> None:
    less = prepared(recipe=RECIPE.model_copy(update={"pairs": 10}))
    assert (less.parts.dev, less.parts.test) == (prepared().parts.dev, prepared().parts.test)


def test_the_parts_are_as_large_as_asked_for_and_every_pair_is_there_once() -> None:
    parts = prepared().parts
    assert [len(lines) for lines in parts] == [3000, 100, 150]
    assert len({(line.source, line.target) for lines in parts for line in lines}) == 3250


def test_no_sentence_of_either_language_is_in_two_parts() -> None:
    for side in (1, 2):
        places = defaultdict(set)
        for name, lines in prepared().parts._asdict().items():
            for line in lines:
                places[key(line[side])].add(name)
        assert all(len(names) == 1 for names in places.values())


def test_many_english_sentences_have_several_germans() -> None:
    train = prepared().parts.train
    found = defaultdict(set)
    for line in train:
        assert line.group == line.source
        found[line.source].add(line.target)
    assert sum(len(targets) > 1 for targets in found.values()) > len(found) / 2


def test_there_are_thousands_of_english_sentences() -> None:
    chance = random.Random(1)
    assert len({synthetic.english(synthetic.draw(chance)) for _ in range(8000)}) > 5000


def test_no_article_stands_before_a_noun_of_another_gender() -> None:
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


def test_every_verb_names_the_forms_that_it_is_built_from() -> None:
    for frame in FRAMES:
        for english, verbs in frame.verbs.items():
            assert len(english.split("/")) == 3
            for verb in map(str.split, verbs):
                assert verb[0].endswith("en")
                assert len(verb) == 4 or (len(verb) == 5 and verb[4] == "dat")


@pytest.mark.parametrize(("source", "target"), [("de", "en"), ("en", "fr"), ("th", "en")])
def test_other_languages_are_refused_in_one_sentence(source: str, target: str) -> None:
    with pytest.raises(InputError, match=f"English to German, not {source} to {target}; set data.source to en"):
        synthetic.prepare(RECIPE, source=source, target=target, seed=1)


def test_the_recipe_of_the_project_is_one() -> None:
    recipe = schema.load(Path(__file__).parents[1] / "corpora" / "grammar.yaml", synthetic.SyntheticRecipe)
    assert recipe == synthetic.SyntheticRecipe(kind="grammar", pairs=4000, dev=200, test=200)


def test_a_recipe_that_asks_for_too_much_is_refused_by_its_key() -> None:
    with pytest.raises(InputError, match=r"corpora/x\.yaml: pairs is 1000000"):
        schema.parse(
            synthetic.SyntheticRecipe, {"kind": "grammar", "pairs": 10**6, "dev": 1, "test": 1}, where="corpora/x.yaml"
        )
