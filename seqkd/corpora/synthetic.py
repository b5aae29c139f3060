"""A small authored grammar of English and German: one English sentence, several German ones that say the same."""

import random
from collections import Counter
from typing import Annotated, Literal, NamedTuple

from pydantic import Field

from seqkd.config.schema import Positive, Record
from seqkd.corpora.cleaning import Cleaned, Line, Split
from seqkd.corpora.lexicon import (
    ADJECTIVES,
    FRAMES,
    FUTURE,
    MODALS,
    NOUNS,
    OPENERS,
    PAST,
    PEOPLE,
    PLACES,
    PRESENT,
    PRONOUNS,
    STRANGERS,
    VERBS,
    Lexicon,
)
from seqkd.utils.errors import InputError

NOMINATIVE, ACCUSATIVE, DATIVE = range(3)


Count = Annotated[Positive, Field(le=200_000)]  # a few seconds; the grammar has far more sentences


class SyntheticRecipe(Record):
    kind: Literal["grammar"]
    pairs: Count  # to train on; one to three Germans for an English sentence
    dev: Count  # further pairs, one for an English sentence
    test: Count


class Phrase(NamedTuple):
    determiner: str  # English; empty for a pronoun
    adjective: str  # English; empty for none
    noun: str


class Meaning(NamedTuple):
    opener: str  # what the sentence is a clause of; empty for nothing
    subject: Phrase
    tense: str  # present, past, future or a key of MODALS
    verb: str
    recipient: Phrase | None
    object: Phrase
    place: str  # empty for none
    time: str


# By gender, then nominative, accusative, dative.
THE = {"m": ("der", "den", "dem"), "f": ("die", "die", "der"), "n": ("das", "das", "dem")}
THIS = {"m": ("er", "en", "em"), "f": ("e", "e", "er"), "n": ("es", "es", "em")}
AN = {"m": ("", "en", "em"), "f": ("e", "e", "er"), "n": ("", "", "em")}
WEAK = {"m": ("e", "en", "en"), "f": ("e", "e", "en"), "n": ("e", "e", "en")}  # an adjective after the, this
MIXED = {"m": ("er", "en", "en"), "f": ("e", "e", "en"), "n": ("es", "es", "en")}  # after a, my, ...
STEMS = {"a": "ein", "my": "mein", "our": "unser", "his": "sein", "her": "ihr"}
DETERMINERS = ["the", "this", *STEMS]
TIMES = PRESENT | PAST | FUTURE


def prepare(recipe: SyntheticRecipe, *, source: str, target: str, seed: int) -> Cleaned:
    """Seeded pairs of the grammar; no English sentence and no German one is in two parts.

    More train pairs leave dev and test as they are. Raises InputError for other languages than en to de.
    """
    if (source, target) != ("en", "de"):
        raise InputError(
            f"a corpus of kind grammar is English to German, not {source} to {target}; "
            "set data.source to en and data.target to de, or choose another data.corpus."
        )
    chance = random.Random(seed)
    seen: set[str] = set()
    test = _lines(recipe.test, 1, seen=seen, chance=chance)
    dev = _lines(recipe.dev, 1, seen=seen, chance=chance)
    train = _lines(recipe.pairs, 3, seen=seen, chance=chance)
    chance.shuffle(train)
    origin: dict[str, object] = {"text": "authored templates of seqkd.grammar", "sentences": len(seen)}
    return Cleaned(Split(train, dev, test), Counter(), origin)


def draw(chance: random.Random) -> Meaning:
    """Something to say."""
    frame = chance.choice(FRAMES)
    tense = chance.choice(["present", "past", "past", "future", *MODALS])
    times = {"present": PRESENT, "past": PAST}.get(tense, FUTURE)
    timed = tense == "future" or chance.random() < 0.7  # the German present says future only with a time
    subject = Phrase("", "", chance.choice([*PRONOUNS])) if chance.random() < 0.3 else _phrase(PEOPLE, "", chance)
    recipient = _phrase(PEOPLE, subject.noun, chance) if frame.recipient else None
    thing = _phrase(frame.objects, subject.noun, chance)
    if thing.noun not in PEOPLE and chance.random() < 0.4:
        thing = thing._replace(adjective=chance.choice([*ADJECTIVES]))
    return Meaning(
        opener=chance.choice([*OPENERS]) if chance.random() < 0.25 else "",
        subject=subject,
        tense=tense,
        verb=chance.choice([*frame.verbs]),
        recipient=recipient,
        object=thing,
        place=chance.choice([*frame.places]) if frame.places and chance.random() < 0.5 else "",
        time=chance.choice([*times]) if timed else "",
    )


def english(meaning: Meaning) -> str:
    """The one English sentence of a meaning."""
    base, third, past = meaning.verb.split("/")
    plain = meaning.subject.noun in ("I", "we", "they")
    match meaning.tense:
        case "present":
            verb = base if plain else third
        case "past":
            verb = past
        case "future":
            verb = f"will {base}"
        case modal:
            verb = f"{modal.split('/')[0 if plain else 1]} {base}"
    phrases = [_english_phrase(phrase) for phrase in (meaning.recipient, meaning.object) if phrase]
    return _sentence([meaning.opener, _english_phrase(meaning.subject), verb, *phrases, meaning.place, meaning.time])


def german(meaning: Meaning, chance: random.Random) -> str:
    """One of the German sentences of a meaning: its words, tense and order are drawn."""
    verb = chance.choice(VERBS[meaning.verb]).split()
    case = DATIVE if verb[-1] == "dat" else ACCUSATIVE
    finite, tail, final = _predicate(verb, meaning.tense, meaning.subject.noun, chance)
    subject = _german_phrase(meaning.subject, NOMINATIVE, chance)
    thing = _german_phrase(meaning.object, case, chance)
    place = chance.choice(PLACES[meaning.place]) if meaning.place else ""
    time = chance.choice(TIMES[meaning.time]) if meaning.time else ""
    recipient = _german_phrase(meaning.recipient, DATIVE, chance) if meaning.recipient else ""
    objects = f"{recipient} {thing}".strip()
    orders = [[time, place, objects], [time, objects, place]]
    fronts = [subject, time, place]
    if meaning.object.determiner != "a":
        orders.append([objects, time, place])
        if not recipient and thing.split()[0].endswith(("en", "em")):  # no one takes it for the subject
            fronts.append(thing)
    opener = chance.choice(OPENERS[meaning.opener]) if meaning.opener else ""
    rest = [subject, *chance.choice(orders)]
    if opener.endswith("dass"):
        return _sentence([opener, *rest, final])
    front = chance.choice([*filter(None, fronts)])
    return _sentence([opener, front, finite, *(part for part in rest if part != front), tail])


def _lines(count: int, most: int, *, seen: set[str], chance: random.Random) -> list[Line]:
    """count lines of sentences not seen before, at most `most` Germans for one; what they say is added to seen."""
    lines: list[Line] = []
    while len(lines) < count:
        meaning = draw(chance)
        source = english(meaning)
        if source in seen:
            continue
        seen.add(source)
        targets = dict.fromkeys(german(meaning, chance) for _ in range(chance.randint(1, most)))
        lines += [Line(source, source, target) for target in targets]
    return lines[:count]


def _phrase(nouns: Lexicon, other: str, chance: random.Random) -> Phrase:
    """A determiner with any of the nouns but the other."""
    noun = chance.choice([noun for noun in nouns if noun != other])
    return Phrase(chance.choice(["the", "this", "a"] if noun in STRANGERS else DETERMINERS), "", noun)


def _english_phrase(phrase: Phrase) -> str:
    words = [word for word in phrase if word]
    if words[0] == "a" and words[1][0] in "aeiou":
        words[0] = "an"
    return " ".join(words)


def _german_phrase(phrase: Phrase, case: int, chance: random.Random) -> str:
    """Determiner, adjective and noun in a case, agreeing in gender."""
    if not phrase.determiner:
        return PRONOUNS[phrase.noun]
    gender, *forms = chance.choice(NOUNS[phrase.noun]).split()
    if phrase.determiner in STEMS:
        determiner, endings = STEMS[phrase.determiner] + AN[gender][case], MIXED
    else:
        determiner, endings = THE[gender][case] if phrase.determiner == "the" else "dies" + THIS[gender][case], WEAK
    noun = forms[0 if case == NOMINATIVE else -1]
    adjective = chance.choice(ADJECTIVES[phrase.adjective]) + endings[gender][case] if phrase.adjective else ""
    return " ".join(filter(None, (determiner, adjective, noun)))


def _predicate(verb: list[str], tense: str, subject: str, chance: random.Random) -> tuple[str, str, str]:
    """The finite verb, what closes a main clause, and what closes a subordinate one."""
    infinitive, third, past, participle = verb[:4]
    prefix, infinitive = infinitive.split("+") if "+" in infinitive else ("", infinitive)
    person = {"I": 0, "we": 2, "they": 2}.get(subject, 1)
    present = (infinitive.removesuffix("en") + "e", third, infinitive)[person]
    preterite = past if person < 2 else past + ("n" if past.endswith("e") else "en")
    simple, closing = "", prefix + infinitive
    match tense:
        case "present":
            simple = present
        case "past" if chance.random() < 0.5:
            simple = preterite
        case "past":
            auxiliary, closing = ("habe", "hat", "haben")[person], prefix + participle
        case "future" if chance.random() < 0.5:
            simple = present
        case "future":
            auxiliary = ("werde", "wird", "werden")[person]
        case modal:
            auxiliary = chance.choice(MODALS[modal]).split()[person == 2]
    return (simple, prefix, prefix + simple) if simple else (auxiliary, closing, f"{closing} {auxiliary}")


def _sentence(parts: list[str]) -> str:
    text = " ".join(filter(None, parts))
    return f"{text[0].upper()}{text[1:]}."
