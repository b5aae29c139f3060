"""The words of seqkd.grammar: English ones, the German ones that may stand for each, and what goes together."""

from typing import NamedTuple

Lexicon = dict[str, tuple[str, ...]]  # English, and every German that may stand for it


def entries(text: str) -> Lexicon:
    """'English: German | German; ...' as a mapping."""
    split = (entry.split(":") for entry in " ".join(text.split()).split("; "))
    return {key.strip(): tuple(word.strip() for word in words.split("|")) for key, words in split}


# Nouns: gender, nominative, and the form of the other cases where it differs.
ACQUAINTED = entries("""teacher: m Lehrer | f Lehrerin; doctor: m Arzt | f Ärztin; baker: m Bäcker | f Bäckerin;
    neighbour: m Nachbar Nachbarn | f Nachbarin; colleague: m Kollege Kollegen | f Kollegin;
    student: m Student Studenten | f Studentin;
    child: n Kind; friend: m Freund | f Freundin; grandmother: f Großmutter | f Oma; grandfather: m Großvater | m Opa;
    aunt: f Tante; uncle: m Onkel""")
STRANGERS = entries("man: m Mann; woman: f Frau; boy: m Junge Jungen; girl: n Mädchen")  # nobody's
PEOPLE = ACQUAINTED | STRANGERS
TEXTS = entries("""book: n Buch; letter: m Brief; newspaper: f Zeitung; report: m Bericht; poem: n Gedicht;
    story: f Geschichte | f Erzählung""")
GOODS = entries("""bicycle: n Fahrrad | n Rad; car: n Auto | m Wagen; clock: f Uhr; table: m Tisch;
    sofa: n Sofa | f Couch; bag: f Tasche; umbrella: m Regenschirm | m Schirm; coat: m Mantel;
    box: f Kiste | f Schachtel; picture: n Bild""")
FOOD = entries("cake: m Kuchen; soup: f Suppe; apple: m Apfel; fish: m Fisch; egg: n Ei; salad: m Salat")
ROOMS = entries("kitchen: f Küche; bathroom: n Badezimmer | n Bad; cellar: m Keller; room: n Zimmer | m Raum")
CLOSED = entries("door: f Tür; window: n Fenster; bottle: f Flasche; cupboard: m Schrank; parcel: n Paket")
DEVICES = entries("radio: n Radio; lamp: f Lampe; computer: m Computer | m Rechner; oven: m Ofen | m Backofen")
NOUNS = PEOPLE | TEXTS | GOODS | FOOD | ROOMS | CLOSED | DEVICES
PRONOUNS = {"I": "ich", "we": "wir", "they": "sie", "he": "er", "she": "sie"}
ADJECTIVES = entries("""new: neu; old: alt; small: klein; big: groß; beautiful: schön | wunderschön; good: gut;
    strange: seltsam | merkwürdig | eigenartig""")

HOME = entries("""at home: zu Hause | daheim; in the garden: im Garten; on the balcony: auf dem Balkon;
    at school: in der Schule; at the office: im Büro; in the living room: im Wohnzimmer""")
TOWN = entries("""in town: in der Stadt; at the station: am Bahnhof; at the market: auf dem Markt;
    in the shop: im Laden | im Geschäft; in the village: im Dorf""")
NOWHERE: Lexicon = {}
PLACES = HOME | TOWN
PRESENT = entries("""every day: jeden Tag | täglich; on Sundays: sonntags | jeden Sonntag;
    in the morning: morgens | am Morgen; from time to time: ab und zu | von Zeit zu Zeit | hin und wieder;
    once a week: einmal pro Woche | einmal in der Woche; in summer: im Sommer""")
PAST = entries("""yesterday: gestern; last week: letzte Woche | vergangene Woche; on Monday: am Montag;
    two days ago: vor zwei Tagen | vorgestern; recently: neulich | kürzlich | vor Kurzem; last night: letzte Nacht""")
FUTURE = entries("""tomorrow: morgen; next week: nächste Woche | kommende Woche; this evening: heute Abend; soon: bald;
    in two days: in zwei Tagen | übermorgen; on Friday: am Freitag; after work: nach der Arbeit | nach Feierabend""")
# A finite modal of the first and third person, then the plural; each takes the times of FUTURE.
MODALS = entries("want to/wants to: will wollen | möchte möchten; have to/has to: muss müssen; can/can: kann können")
OPENERS = entries("""I think that: Ich glaube, dass | Ich glaube, | Ich denke, dass | Ich denke,;
    I know that: Ich weiß, dass; she says that: Sie sagt, dass | Sie sagt,;
    everyone knows that: Alle wissen, dass | Jeder weiß, dass""")


class Frame(NamedTuple):
    objects: Lexicon
    places: Lexicon
    recipient: bool  # whether someone in the dative stands before the object
    verbs: Lexicon  # base/third person/past: [prefix+]infinitive, third person, past, participle, dat for its object


FRAMES = [
    Frame(TEXTS, HOME, False, entries("""
        read/reads/read: lesen liest las gelesen;
        write/writes/wrote: schreiben schreibt schrieb geschrieben | verfassen verfasst verfasste verfasst;
        read out/reads out/read out: vor+lesen liest las gelesen""")),
    Frame(GOODS, TOWN, False, entries("""
        buy/buys/bought: kaufen kauft kaufte gekauft | erwerben erwirbt erwarb erworben;
        sell/sells/sold: verkaufen verkauft verkaufte verkauft;
        lose/loses/lost: verlieren verliert verlor verloren;
        find/finds/found: finden findet fand gefunden;
        look for/looks for/looked for: suchen sucht suchte gesucht;
        pick up/picks up/picked up: ab+holen holt holte geholt""")),
    Frame(FOOD, HOME, False, entries("""
        eat/eats/ate: essen isst aß gegessen | verspeisen verspeist verspeiste verspeist;
        eat up/eats up/ate up: auf+essen isst aß gegessen;
        bring along/brings along/brought along: mit+bringen bringt brachte gebracht;
        prepare/prepares/prepared: zu+bereiten bereitet bereitete bereitet""")),
    Frame(ROOMS, NOWHERE, False, entries("""
        tidy up/tidies up/tidied up: auf+räumen räumt räumte geräumt;
        clean/cleans/cleaned: putzen putzt putzte geputzt | reinigen reinigt reinigte gereinigt""")),
    Frame(CLOSED, HOME, False, entries("""
        open/opens/opened: öffnen öffnet öffnete geöffnet | auf+machen macht machte gemacht;
        close/closes/closed: schließen schließt schloss geschlossen | zu+machen macht machte gemacht""")),
    Frame(DEVICES, HOME, False, entries("""
        switch on/switches on/switched on: ein+schalten schaltet schaltete geschaltet | an+machen macht machte gemacht;
        switch off/switches off/switched off: aus+schalten schaltet schaltete geschaltet |
            aus+machen macht machte gemacht;
        repair/repairs/repaired: reparieren repariert reparierte repariert""")),
    Frame(PEOPLE, HOME, False, entries("""
        help/helps/helped: helfen hilft half geholfen dat | unterstützen unterstützt unterstützte unterstützt;
        visit/visits/visited: besuchen besucht besuchte besucht;
        listen to/listens to/listened to: zu+hören hört hörte gehört dat""")),
    Frame(PEOPLE, TOWN, False, entries("""
        invite/invites/invited: ein+laden lädt lud geladen;
        call/calls/called: an+rufen ruft rief gerufen;
        meet/meets/met: treffen trifft traf getroffen;
        thank/thanks/thanked: danken dankt dankte gedankt dat;
        congratulate/congratulates/congratulated: gratulieren gratuliert gratulierte gratuliert dat""")),
    Frame(TEXTS | GOODS, TOWN, True, entries("""
        show/shows/showed: zeigen zeigt zeigte gezeigt;
        send/sends/sent: schicken schickt schickte geschickt | senden sendet sendete gesendet;
        lend/lends/lent: leihen leiht lieh geliehen""")),
]  # fmt: skip
VERBS = {key: words for frame in FRAMES for key, words in frame.verbs.items()}
