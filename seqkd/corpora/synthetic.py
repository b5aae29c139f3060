"""A synthetic corpus: a small grammar makes an English sentence and several German ones of the same meaning."""

import random
from collections import Counter
from typing import Annotated, Literal, NamedTuple

from pydantic import Field

from seqkd.config.records import Positive, Record
from seqkd.corpora.cleaning import Cleaned, Split
from seqkd.corpora.stored import Line
from seqkd.utils.errors import InputError

# The lexicon.

Lexicon = dict[str, tuple[str, ...]]  # English -> the German words of the same meaning


def _entries(text: str) -> Lexicon:
    """Parse 'English: German | German; ...'."""
    split = (entry.split(":") for entry in " ".join(text.split()).split("; "))
    return {key.strip(): tuple(word.strip() for word in words.split("|")) for key, words in split}


# German nouns: gender, nominative, and the form of the other cases where it differs.
ACQUAINTED = _entries("""teacher: m Lehrer | f Lehrerin; doctor: m Arzt | f Ärztin; baker: m Bäcker | f Bäckerin;
    neighbour: m Nachbar Nachbarn | f Nachbarin; colleague: m Kollege Kollegen | f Kollegin;
    student: m Student Studenten | f Studentin;
    child: n Kind; friend: m Freund | f Freundin; grandmother: f Großmutter | f Oma; grandfather: m Großvater | m Opa;
    aunt: f Tante; uncle: m Onkel""")
STRANGERS = _entries("man: m Mann; woman: f Frau; boy: m Junge Jungen; girl: n Mädchen")  # not with my, our ...
PEOPLE = ACQUAINTED | STRANGERS
TEXTS = _entries("""book: n Buch; letter: m Brief; newspaper: f Zeitung; report: m Bericht; poem: n Gedicht;
    story: f Geschichte | f Erzählung""")
GOODS = _entries("""bicycle: n Fahrrad | n Rad; car: n Auto | m Wagen; clock: f Uhr; table: m Tisch;
    sofa: n Sofa | f Couch; bag: f Tasche; umbrella: m Regenschirm | m Schirm; coat: m Mantel;
    box: f Kiste | f Schachtel; picture: n Bild""")
FOOD = _entries("cake: m Kuchen; soup: f Suppe; apple: m Apfel; fish: m Fisch; egg: n Ei; salad: m Salat")
ROOMS = _entries("kitchen: f Küche; bathroom: n Badezimmer | n Bad; cellar: m Keller; room: n Zimmer | m Raum")
CLOSED = _entries("door: f Tür; window: n Fenster; bottle: f Flasche; cupboard: m Schrank; parcel: n Paket")
DEVICES = _entries("radio: n Radio; lamp: f Lampe; computer: m Computer | m Rechner; oven: m Ofen | m Backofen")
NOUNS = PEOPLE | TEXTS | GOODS | FOOD | ROOMS | CLOSED | DEVICES
PRONOUNS = {"I": "ich", "we": "wir", "they": "sie", "he": "er", "she": "sie"}
ADJECTIVES = _entries("""new: neu; old: alt; small: klein; big: groß; beautiful: schön | wunderschön; good: gut;
    strange: seltsam | merkwürdig | eigenartig""")

HOME = _entries("""at home: zu Hause | daheim; in the garden: im Garten; on the balcony: auf dem Balkon;
    at school: in der Schule; at the office: im Büro; in the living room: im Wohnzimmer""")
TOWN = _entries("""in town: in der Stadt; at the station: am Bahnhof; at the market: auf dem Markt;
    in the shop: im Laden | im Geschäft; in the village: im Dorf""")
NOWHERE: Lexicon = {}
PLACES = HOME | TOWN
PRESENT = _entries("""every day: jeden Tag | täglich; on Sundays: sonntags | jeden Sonntag;
    in the morning: morgens | am Morgen; from time to time: ab und zu | von Zeit zu Zeit | hin und wieder;
    once a week: einmal pro Woche | einmal in der Woche; in summer: im Sommer""")
PAST = _entries("""yesterday: gestern; last week: letzte Woche | vergangene Woche; on Monday: am Montag;
    two days ago: vor zwei Tagen | vorgestern; recently: neulich | kürzlich | vor Kurzem; last night: letzte Nacht""")
FUTURE = _entries("""tomorrow: morgen; next week: nächste Woche | kommende Woche; this evening: heute Abend; soon: bald;
    in two days: in zwei Tagen | übermorgen; on Friday: am Freitag; after work: nach der Arbeit | nach Feierabend""")
# German modals: the form of ich and er, then the plural. A sentence with one has a time of FUTURE.
MODALS = _entries("want to/wants to: will wollen | möchte möchten; have to/has to: muss müssen; can/can: kann können")
OPENERS = _entries("""I think that: Ich glaube, dass | Ich glaube, | Ich denke, dass | Ich denke,;
    I know that: Ich weiß, dass; she says that: Sie sagt, dass | Sie sagt,;
    everyone knows that: Alle wissen, dass | Jeder weiß, dass""")


class Frame(NamedTuple):
    objects: Lexicon
    places: Lexicon
    recipient: bool  # whether a person in the dative stands before the object
    # base/third person/past: [prefix+]infinitive, third person, past, participle, "dat" where the object is a dative
    verbs: Lexicon


FRAMES = [
    Frame(TEXTS, HOME, False, _entries("""
        read/reads/read: lesen liest las gelesen;
        write/writes/wrote: schreiben schreibt schrieb geschrieben | verfassen verfasst verfasste verfasst;
        read out/reads out/read out: vor+lesen liest las gelesen""")),
    Frame(GOODS, TOWN, False, _entries("""
        buy/buys/bought: kaufen kauft kaufte gekauft | erwerben erwirbt erwarb erworben;
        sell/sells/sold: verkaufen verkauft verkaufte verkauft;
        lose/loses/lost: verlieren verliert verlor verloren;
        find/finds/found: finden findet fand gefunden;
        look for/looks for/looked for: suchen sucht suchte gesucht;
        pick up/picks up/picked up: ab+holen holt holte geholt""")),
    Frame(FOOD, HOME, False, _entries("""
        eat/eats/ate: essen isst aß gegessen | verspeisen verspeist verspeiste verspeist;
        eat up/eats up/ate up: auf+essen isst aß gegessen;
        bring along/brings along/brought along: mit+bringen bringt brachte gebracht;
        prepare/prepares/prepared: zu+bereiten bereitet bereitete bereitet""")),
    Frame(ROOMS, NOWHERE, False, _entries("""
        tidy up/tidies up/tidied up: auf+räumen räumt räumte geräumt;
        clean/cleans/cleaned: putzen putzt putzte geputzt | reinigen reinigt reinigte gereinigt""")),
    Frame(CLOSED, HOME, False, _entries("""
        open/opens/opened: öffnen öffnet öffnete geöffnet | auf+machen macht machte gemacht;
        close/closes/closed: schließen schließt schloss geschlossen | zu+machen macht machte gemacht""")),
    Frame(DEVICES, HOME, False, _entries("""
        switch on/switches on/switched on: ein+schalten schaltet schaltete geschaltet | an+machen macht machte gemacht;
        switch off/switches off/switched off: aus+schalten schaltet schaltete geschaltet |
            aus+machen macht machte gemacht;
        repair/repairs/repaired: reparieren repariert reparierte repariert""")),
    Frame(PEOPLE, HOME, False, _entries("""
        help/helps/helped: helfen hilft half geholfen dat | unterstützen unterstützt unterstützte unterstützt;
        visit/visits/visited: besuchen besucht besuchte besucht;
        listen to/listens to/listened to: zu+hören hört hörte gehört dat""")),
    Frame(PEOPLE, TOWN, False, _entries("""
        invite/invites/invited: ein+laden lädt lud geladen;
        call/calls/called: an+rufen ruft rief gerufen;
        meet/meets/met: treffen trifft traf getroffen;
        thank/thanks/thanked: danken dankt dankte gedankt dat;
        congratulate/congratulates/congratulated: gratulieren gratuliert gratulierte gratuliert dat""")),
    Frame(TEXTS | GOODS, TOWN, True, _entries("""
        show/shows/showed: zeigen zeigt zeigte gezeigt;
        send/sends/sent: schicken schickt schickte geschickt | senden sendet sendete gesendet;
        lend/lends/lent: leihen leiht lieh geliehen""")),
]  # fmt: skip
VERBS = {key: words for frame in FRAMES for key, words in frame.verbs.items()}

# The grammar.

NOMINATIVE, ACCUSATIVE, DATIVE = range(3)


Count = Annotated[Positive, Field(le=200_000)]  # takes a few seconds; the grammar has far more sentences


class SyntheticRecipe(Record):
    kind: Literal["grammar"]
    pairs: Count  # to train on; one to three German sentences per English one
    dev: Count  # other pairs, one German sentence per English one
    test: Count


class Phrase(NamedTuple):
    determiner: str  # English; empty for a pronoun
    adjective: str  # English; empty for none
    noun: str


class Meaning(NamedTuple):
    opener: str  # the main clause before it; empty for none
    subject: Phrase
    tense: str  # present, past, future or a key of MODALS
    verb: str
    recipient: Phrase | None
    object: Phrase
    place: str  # empty for none
    time: str


# Forms or endings by gender, then nominative, accusative, dative.
THE = {"m": ("der", "den", "dem"), "f": ("die", "die", "der"), "n": ("das", "das", "dem")}
THIS = {"m": ("er", "en", "em"), "f": ("e", "e", "er"), "n": ("es", "es", "em")}
AN = {"m": ("", "en", "em"), "f": ("e", "e", "er"), "n": ("", "", "em")}
WEAK = {"m": ("e", "en", "en"), "f": ("e", "e", "en"), "n": ("e", "e", "en")}  # of an adjective after the, this
MIXED = {"m": ("er", "en", "en"), "f": ("e", "e", "en"), "n": ("es", "es", "en")}  # after a, my, ...
STEMS = {"a": "ein", "my": "mein", "our": "unser", "his": "sein", "her": "ihr"}
DETERMINERS = ["the", "this", *STEMS]
TIMES = PRESENT | PAST | FUTURE


def prepare(recipe: SyntheticRecipe, *, source: str, target: str, seed: int) -> Cleaned:
    """Return random pairs of the grammar; no English sentence and no German one is in two parts.

    dev and test do not depend on the number of training pairs. Raise InputError for other languages than en to de.
    """
    if (source, target) != ("en", "de"):
        raise InputError(
            f"a corpus of kind grammar is English to German, not {source} to {target}; "
            "set data.source to en and data.target to de, or choose another data.corpus."
        )
    rng = random.Random(seed)
    seen: set[str] = set()
    test = _lines(recipe.test, 1, seen=seen, rng=rng)
    dev = _lines(recipe.dev, 1, seen=seen, rng=rng)
    train = _lines(recipe.pairs, 3, seen=seen, rng=rng)
    rng.shuffle(train)
    origin: dict[str, object] = {"text": "authored templates of seqkd.corpora.synthetic", "sentences": len(seen)}
    return Cleaned(Split(train, dev, test), Counter(), origin)


def draw(rng: random.Random) -> Meaning:
    """Draw a meaning."""
    frame = rng.choice(FRAMES)
    tense = rng.choice(["present", "past", "past", "future", *MODALS])
    times = {"present": PRESENT, "past": PAST}.get(tense, FUTURE)
    has_time = tense == "future" or rng.random() < 0.7  # a German present means the future only with a time
    subject = Phrase("", "", rng.choice([*PRONOUNS])) if rng.random() < 0.3 else _phrase(PEOPLE, "", rng)
    recipient = _phrase(PEOPLE, subject.noun, rng) if frame.recipient else None
    thing = _phrase(frame.objects, subject.noun, rng)
    if thing.noun not in PEOPLE and rng.random() < 0.4:
        thing = thing._replace(adjective=rng.choice([*ADJECTIVES]))
    return Meaning(
        opener=rng.choice([*OPENERS]) if rng.random() < 0.25 else "",
        subject=subject,
        tense=tense,
        verb=rng.choice([*frame.verbs]),
        recipient=recipient,
        object=thing,
        place=rng.choice([*frame.places]) if frame.places and rng.random() < 0.5 else "",
        time=rng.choice([*times]) if has_time else "",
    )


def english(meaning: Meaning) -> str:
    """Return the one English sentence of a meaning."""
    base, third, past = meaning.verb.split("/")
    takes_base = meaning.subject.noun in ("I", "we", "they")
    match meaning.tense:
        case "present":
            verb = base if takes_base else third
        case "past":
            verb = past
        case "future":
            verb = f"will {base}"
        case modal:
            verb = f"{modal.split('/')[0 if takes_base else 1]} {base}"
    phrases = [_english_phrase(phrase) for phrase in (meaning.recipient, meaning.object) if phrase]
    return _sentence([meaning.opener, _english_phrase(meaning.subject), verb, *phrases, meaning.place, meaning.time])


def german(meaning: Meaning, rng: random.Random) -> str:
    """Draw one of the German sentences of a meaning: words, tense and word order."""
    verb = rng.choice(VERBS[meaning.verb]).split()
    case = DATIVE if verb[-1] == "dat" else ACCUSATIVE
    finite, tail, final = _predicate(verb, meaning.tense, meaning.subject.noun, rng)
    subject = _german_phrase(meaning.subject, NOMINATIVE, rng)
    thing = _german_phrase(meaning.object, case, rng)
    place = rng.choice(PLACES[meaning.place]) if meaning.place else ""
    time = rng.choice(TIMES[meaning.time]) if meaning.time else ""
    recipient = _german_phrase(meaning.recipient, DATIVE, rng) if meaning.recipient else ""
    objects = f"{recipient} {thing}".strip()
    orders = [[time, place, objects], [time, objects, place]]
    fronts = [subject, time, place]
    if meaning.object.determiner != "a":
        orders.append([objects, time, place])
        if not recipient and thing.split()[0].endswith(("en", "em")):  # clearly no subject
            fronts.append(thing)
    opener = rng.choice(OPENERS[meaning.opener]) if meaning.opener else ""
    rest = [subject, *rng.choice(orders)]
    if opener.endswith("dass"):
        return _sentence([opener, *rest, final])
    front = rng.choice([*filter(None, fronts)])
    return _sentence([opener, front, finite, *(part for part in rest if part != front), tail])


def _lines(count: int, most: int, *, seen: set[str], rng: random.Random) -> list[Line]:
    """Draw `count` lines, at most `most` per English sentence; no sentence is in seen, all are added to it."""
    lines: list[Line] = []
    while len(lines) < count:
        meaning = draw(rng)
        source = english(meaning)
        if source in seen:
            continue
        seen.add(source)
        targets = dict.fromkeys(german(meaning, rng) for _ in range(rng.randint(1, most)))
        lines += [Line(source, source, target) for target in targets]
    return lines[:count]


def _phrase(nouns: Lexicon, other: str, rng: random.Random) -> Phrase:
    """Draw a determiner and any of the nouns but `other`."""
    noun = rng.choice([noun for noun in nouns if noun != other])
    return Phrase(rng.choice(["the", "this", "a"] if noun in STRANGERS else DETERMINERS), "", noun)


def _english_phrase(phrase: Phrase) -> str:
    words = [word for word in phrase if word]
    if words[0] == "a" and words[1][0] in "aeiou":
        words[0] = "an"
    return " ".join(words)


def _german_phrase(phrase: Phrase, case: int, rng: random.Random) -> str:
    """Return determiner, adjective and noun in a case, with their endings."""
    if not phrase.determiner:
        return PRONOUNS[phrase.noun]
    gender, *forms = rng.choice(NOUNS[phrase.noun]).split()
    if phrase.determiner in STEMS:
        determiner, endings = STEMS[phrase.determiner] + AN[gender][case], MIXED
    else:
        determiner, endings = THE[gender][case] if phrase.determiner == "the" else "dies" + THIS[gender][case], WEAK
    noun = forms[0 if case == NOMINATIVE else -1]
    adjective = rng.choice(ADJECTIVES[phrase.adjective]) + endings[gender][case] if phrase.adjective else ""
    return " ".join(filter(None, (determiner, adjective, noun)))


def _predicate(verb: list[str], tense: str, subject: str, rng: random.Random) -> tuple[str, str, str]:
    """Return the finite verb, what ends a main clause, and what ends a subordinate one."""
    infinitive, third, past, participle = verb[:4]
    prefix, infinitive = infinitive.split("+") if "+" in infinitive else ("", infinitive)
    person = {"I": 0, "we": 2, "they": 2}.get(subject, 1)
    present = (infinitive.removesuffix("en") + "e", third, infinitive)[person]
    preterite = past if person < 2 else past + ("n" if past.endswith("e") else "en")
    simple, closing = "", prefix + infinitive
    match tense:
        case "present":
            simple = present
        case "past" if rng.random() < 0.5:
            simple = preterite
        case "past":
            auxiliary, closing = ("habe", "hat", "haben")[person], prefix + participle
        case "future" if rng.random() < 0.5:
            simple = present
        case "future":
            auxiliary = ("werde", "wird", "werden")[person]
        case modal:
            auxiliary = rng.choice(MODALS[modal]).split()[person == 2]
    return (simple, prefix, prefix + simple) if simple else (auxiliary, closing, f"{closing} {auxiliary}")


def _sentence(parts: list[str]) -> str:
    text = " ".join(filter(None, parts))
    return f"{text[0].upper()}{text[1:]}."
