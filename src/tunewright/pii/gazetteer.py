"""Given and family names of some eighty locales, from the lists in Faker (MIT), and ordinary words."""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

# English words, months and places that are names somewhere. They count as names only beside another name.
_WORDS_THAT_ARE_NAMES = """
    About Account Ace After Afternoon Again Agent Al Ale Ali All Alta Amber Amen America An And Angel Angeles Apple
    April Arch Are Art As Ash Asia Ask At Atlanta Attention Attn August Austin Autumn Avis Bank Banks Bass Bay Bell
    Bent Best Bill Bills Bird Bishop Black Block Blue Boss Boston Both Boy Bridge Brook Brooklyn Brown Buck Bud
    Burger But Butcher By Call Can Cannot Cant Captain Cardholder Case Cash Cc Chad Chance Charity Chase Cherry
    China Chip Christian Church City Clay Client Cliff Close Cloud Cole Columbia Columbus Comment Con Contact Cook
    Cooper Costa Crane Cross Crystal Cuba Customer Customers Dale Dallas Dash Date Dawn Day Days Dean Dear Deb Debit
    December Delta Denver Destiny Diamond Die Diego Do Doctor Dom Don Door Drew Duke Eagle Earl East Easter Eden
    Edge Edit El Ella Email England English Era Euro Eve Evening Ever Every Everybody Everyone Fair Faith Farmer
    February Fee Field Fields Finish Fish Fisher Fit Flora Florence Florida For Ford Forest Fox France Frank French
    Fresh Friday Friend From Gay Gene Genesis Gentlemen Georgia German Gift Gold Golden Good Grace Grand Grant Gray
    Green Guy Guys Hall Harbor Hardy Harmony Harp Have Haven Hazel He Heath Heaven Heck Hello Her Hey Hi Hill Him
    His Hope House Houston How Hunter Hurt I If In India Indie Invoice Ireland Irish Is Israel It Its Ivory Ivy Jan
    January Jersey Jet Jewel Joker Jordan Journey Joy Judge July June Just Justice Karma Kenya Kind King Kings Kit
    Lady Lake Lane Lark Law Lee Legend Let Liberty Lies Light Like Lily Link Little Lo London Long Lord Lot Love
    Luck Lucky Lung Mac Madam Made Mai Mail Major Mall Man Many Mar March Mark Marks Mars Marshall Mart Mason Master
    May Me Melody Melon Merchant Mercy Message Mile Miles Mill Miller Min Mine Mint Misty Mo Monday Moon More
    Morning Moss Most My Myself Native Nevada New Ni No Noble Nobody North Not Note November Now Oak Ocean October
    Of Officer Oh Okay Olive Olympia Oman Or Order Orlando Owe Pa Page Palmer Pandora Paris Park Parker Parks
    Parsons Pat Pay Payne Pearl Penny Pepper Phoenix Pin Ping Pink Piper Please Pope Poppy Porter Post Precious
    President Price Prince Princess Professor Promise Queen Quick Rain Raven Ray Reach Read Reed Refund Regards Reno
    Rice Rich Ridge Ring River Rob Robin Rock Rod Roll Roman Rome Rose Royal Ruby Rush Saga Sage Said Sailor Saint
    Salem Same Sand Sandy Santa Saturday Say Sea See Self Senator Sep September Serenity Sharp She Shepherd Short
    Silver Sincerely Singer Sir Siri Skip Sky Small Smart Smile Smooth Snow So Sorry South Spain Sparks Spring St
    Star Stark State Steel Sterling Stone Storm Stormy Street Strong Such Summer Sun Sunday Sunny Support Sur Swift
    Tailor Tank Taylor Tea Team Tell Texas Than Thanks The Them Then There These They Those Thursday Ticket Till
    Time To Today Tomorrow Tone Tonight Topaz Tory Trace Treasure Trinidad Trinity True Tuesday Union Unique Unity
    Unknown Unlike Valentine Valid Van Via Victory Virginia Visa Walker Wall Ward Wash Washington Waters We Weaver
    Wednesday Weeks Well Wells Were West What Wheeler When Where Which White Who Why Wild Will Willow Win Windy Wing
    Winter Wise Wolf Wong Wood Woods Worth Write Year Yes Yesterday York You Young Your Zero Zip
"""

# Words that begin sentences in German, French, Spanish, Italian, Dutch and Portuguese. Before a particle each looks
# like a name: "Ich bin Anna" has the form of "Khalid bin Walid".
_FIRST_WORDS = """
    Aan Aber Al Algo Als Am An Anche Ao Aos Aquí As Así Au Auch Auf Aus Aux Avec Aún Bei Bien Bij Bin Bis Bitte Boa
    Bom Bonjour Bonsoir Buenas Buenos Buonasera Buongiorno Car Ce Ces Cet Cette Chez Ci Ciao Com Come Comme Con Cosa
    Cuando Daar Dal Dalla Danke Dans Dass Dat Dei Dein Del Della Dem Den Denn Depuis Der Des Desde Deze Di Die Dies
    Diese Dit Do Doch Donc Donde Dove Du Durch Días E Een Ein Eine Einen El Ele Ella Elle Ellos Em En Er Era Es Esa
    Ese Eso Est Esta Esto Estoy Está Et Eu Euer Falls Foi Frau Für Ganz Geen Gli Goed Goedemorgen Graag Gracias Grazie
    Guten Ha Habe Haben Hace Hallo Hasta Hat He Heb Heeft Herr Het Heute Hier Hoe Hoi Hola Ich Ihr Ihre Ik Il Ils Im
    In Io Is Isso Ist Ja Je Jetzt Jij Kan Kann Kein Las Lei Leider Les Leur Lo Loro Los Lui Madame Mais Man Me Mein
    Meine Merci Mes Met Meu Mi Mijn Minha Mio Mis Mit Moi Mon Monsieur Muito Muy Na Naar Nach Nas Ne Nein Ni Nicht
    Niet No Noch Nog Noi Non Nos Notre Nous Nuestra Nun Nur O Ob Obrigada Obrigado Ohne Olá On Ons Onze Op Os Ou Over
    Où Par Pas Pela Pelo Perché Più Por Porque Pour Prego Pues Qual Quand Quando Que Quem Questa Questo Qui Quiero Qué
    Sa Salut Salve Sans Scusi Se Sehr Sein Seit Ser Ses Seu Señor Señora Si Sie Sin Sind So Sobre Sono Sous Soy Sta Su
    Sua Suis Suo Sur Sus São Sí También Tem Tengo Tenho Todo Toen Tra Tu Uit Um Un Und Une Uns Unser Usted Uw Van Você
    Vom Von Voor Vor Votre Vous Waar Waarom Wann War Warum Was Wat We Weil Wel Wenn Wer Wie Wij Wil Wir Wo Ya Yo Zij
    Zu Zum Zur À Ça Être
"""
# Such words, and German nouns, that are family names, too.
_OPENERS = """
    Ante Bett Buch Casa Che Chi Como Da Dank Dann Das De Dos Día Este Fisch Freitag Handy Hay Herbst Ho Hora Januar
    Juli Juni Kosten Kunde La Le Ma Maar Mann Mas Meer Nel Ora Para Per Pero Schaden Sem Sommer Son Stein Steuer Ta
    Tag Te Una Uno Ville Vos Ware Zimmer
"""


@dataclass(frozen=True)
class Gazetteer:
    """Words with a capital, by the roles that they may have."""

    given: frozenset[str]
    family: frozenset[str]
    parts: frozenset[str]
    """The names that are no ordinary words, also in capitals. O'Brien gives O'Brien and Brien."""
    alone: frozenset[str]
    """Names of at least two locales. They count as names even at the beginning of a sentence."""
    words: frozenset[str]
    """Ordinary words. They are names only beside another name."""
    openers: frozenset[str]
    """Words of other languages than English that are family names, too. Alone, before a given name or at the beginning
    of a sentence they are none."""


@cache
def gazetteer() -> Gazetteer:
    """The lists, read once (0.5 s). A word in both lists counts as what it is in more locales."""
    given, family = Counter[str](), Counter[str]()
    for provider in _providers("person"):
        given.update(_names(provider, "first_name"))
        family.update(_names(provider, "last_name"))
    ordinary = {word.capitalize() for word in importlib.import_module("faker.providers.lorem.en_US").Provider.word_list}
    places = importlib.import_module("faker.providers.address.en_US").Provider
    short_places = {place for place in [*places.countries, *places.states] if " " not in place}  # not Saint Martin
    words = {*_WORDS_THAT_ARE_NAMES.split(), *_FIRST_WORDS.split()} | ordinary | short_places
    names = (given.keys() | family.keys()) - words
    return Gazetteer(
        given=frozenset(name for name in given if given[name] >= family[name]),
        family=frozenset(name for name in family if family[name] > given[name]),
        parts=frozenset(names)
        | {re.split("['’]", name)[-1] for name in names}
        | {name.upper() for name in names if len(name) > 2},
        alone=frozenset(name for counts in (given, family) for name, locales in counts.items() if locales > 1),
        words=frozenset(words),
        openers=frozenset(_OPENERS.split()),
    )


def _providers(kind: str) -> Iterator[type]:
    package = importlib.import_module(f"faker.providers.{kind}")
    for module in pkgutil.iter_modules(package.__path__):
        yield importlib.import_module(f"{package.__name__}.{module.name}").Provider


def _names(provider: type, prefix: str) -> set[str]:
    """The names in Latin script in a provider's lists. Some lists map names to weights."""
    lists = [value for key, value in vars(provider).items() if key.startswith(prefix)]
    return {name for one in lists for name in _flat(one) if _ONE_WORD.fullmatch(name) and max(name) < "\u0250"}


_ONE_WORD = re.compile(r"(?:[^\W\d_]['’])?(?!.?[A-Z]{2})[^\W\d_a-z][^\W\d_]+")


def _flat(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield from value.replace("-", " ").split()
    elif isinstance(value, (list, tuple, set, dict)):
        for one in value:
            yield from _flat(one)
