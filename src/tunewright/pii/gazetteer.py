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

# Words that begin sentences in German, French, Spanish, Italian, Dutch and Portuguese, and German nouns that are family
# names. Some are names somewhere (Da, Mai), and before a particle each looks like one: "Ich bin Anna" has the form of
# "Khalid bin Walid".
_FIRST_WORDS = """
    Aber Als Am An Auch Auf Aus Bei Bin Bis Bitte Da Danke Dann Das Dass Dein Dem Den Denn Der Des Die Dies Diese Doch
    Du Durch Ein Eine Einen Er Es Euer Falls Frau Für Ganz Guten Habe Haben Hallo Hat Heute Herr Hier Ich Ihr Ihre Im
    Ist Ja Jetzt Kann Kein Leider Man Mein Meine Mit Nach Nein Nicht Noch Nun Nur Ob Ohne Seit Sehr Sein Sie Sind So
    Tag Um Und Uns Unser Vom Von Vor Wann War Warum Was Weil Wenn Wer Wie Wir Wo Zu Zum Zur
    À Au Aux Avec Bien Bonjour Bonsoir Ça Car Ce Ces Cet Cette Chez Comme Dans De Depuis Des Donc Du Elle En Est Et Être
    Il Ils Je La Le Les Leur Ma Madame Mais Mes Merci Moi Mon Monsieur Ne Non Nos Notre Nous On Où Ou Par Pas Pour
    Quand Que Qui Sa Salut Sans Se Ses Si Son Sous Suis Sur Ta Tu Un Une Vos Votre Vous
    Al Algo Ante Aquí Así Aún Buenas Buenos Como Con Cuando De Del Desde Días Donde El Ella Ellos En Era Es Esa Ese Eso
    Esta Está Este Esto Estoy Gracias Ha Hace Hasta Hay He Hola La Las Le Lo Los Me Mi Mis Muy Ni No Nos Nuestra
    Para Pero Por Porque Pues Qué Quiero Se Señor Señora Ser Si Sí Sin Sobre Son Soy Su Sus También Te Tengo Todo Tu Un
    Una Usted Ya Yo
    Anche Buongiorno Buonasera Che Chi Ci Ciao Come Cosa Da Dal Dalla Dei Del Della Di Dove Gli Grazie Ho Il In Io Lei
    Loro Lui Ma Mio Nel Noi Non Per Perché Più Prego Quando Questa Questo Salve Scusi Sono Sta Sua Suo Tra Uno
    Aan Als Bij Daar Dank Dat De Deze Die Dit Een Geen Goed Goedemorgen Graag Heb Heeft Het Hoe Hoi Ik Is Jij Kan
    Maar Meer Met Mijn Naar Niet Nog Ons Onze Op Over Te Toen Uit Uw Van Voor Waar Waarom Wat We Wel Wij Wil Zij
    Bett Buch Casa Día Fisch Freitag Handy Herbst Hora Januar Juli Juni Kosten Kunde Mann Ora Schaden Sommer Stein
    Steuer Ville Ware Zimmer
    Ao Aos As Bom Boa Com Da Das Do Dos E Ele Em Esta Este Eu Foi Isso Mas Meu Minha Muito Na Nas No Nos O Olá
    Obrigada Obrigado Os Ou Pela Pelo Porque Qual Quem São Sem Seu Sua Tem Tenho Um Você
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
    """Words of other languages than English. Alone, or at the beginning of a sentence, they are no names."""


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
    words = set(_WORDS_THAT_ARE_NAMES.split()) | ordinary | short_places
    names = (given.keys() | family.keys()) - words
    return Gazetteer(
        given=frozenset(name for name in given if given[name] >= family[name]),
        family=frozenset(name for name in family if family[name] > given[name]),
        parts=frozenset(names)
        | {re.split("['’]", name)[-1] for name in names}
        | {name.upper() for name in names if len(name) > 2},
        alone=frozenset(name for counts in (given, family) for name, locales in counts.items() if locales > 1),
        words=frozenset(words),
        openers=frozenset(_FIRST_WORDS.split()),
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
