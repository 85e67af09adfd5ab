"""Finding persons by capitals, known names, usual endings of family names, and the words around them.

Names in lower case, or in a script other than Latin, are not found. A name that is in no list is found if the text
marks it (by a title, a greeting, a signature), if it has an initial, or beside a known name.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from tunewright.pii.gazetteer import gazetteer
from tunewright.pii.spans import Finder, Prefilter, Span, SpanFacts, says
from tunewright.pii.whole_words import WholeWords

_LATIN = [character for character in map(chr, range(0x250)) if character.isalpha()]
_CAPITAL = "[" + "".join(character for character in _LATIN if character.isupper()) + "]"
_SMALL = "[" + "".join(character for character in _LATIN if character.islower()) + "]"
_NAME = (
    rf"(?:{_CAPITAL}['’](?={_CAPITAL})|Mc(?={_CAPITAL})|Mac(?={_CAPITAL}))?"
    rf"{_CAPITAL}{_SMALL}+(?:[-'’]{_CAPITAL}{_SMALL}+){{0,3}}(?!\w)"
)
_PARTICLE = r"(?:van|von|de|del|della|der|den|di|da|dos|du|la|le|ter|ten|zu|bin|al|el)"
_LINK = rf" (?:{_CAPITAL}\.? ){{0,2}}(?:{_PARTICLE} ){{0,2}}"
_FULL = rf"{_NAME}(?:{_LINK}{_NAME}){{0,3}}"
_RUN = re.compile(rf"(?<![\w@#&/'’-])(?<!\w\.){_FULL}(?![@/_-]\w|['’](?!s\b)\w)")
_WORD = re.compile(_NAME)
_ALL_CAPITALS = re.compile(rf"(?<![\w@#&/'’-])({_CAPITAL}{{3,}})(?: {_CAPITAL}\.?)? ({_CAPITAL}{{3,}})(?![\w@/'’-])")
_MIDDLE_INITIAL = re.compile(rf" {_CAPITAL}\.? (?={_CAPITAL}|{_PARTICLE} )")

# Endings that many family names have, and few other words with a capital.
_ENDINGS_TEXT = """
    ov ova ovna ev eva evna ský ská ski ska sky skaya skoy cki cka ová sson dóttir dottir ić vich czyk czak enko
    shvili adze yama mura moto kawa gawa saki zaki guchi shima jima yan oğlu oglu escu poulos idis akis nsen lsen
    rsen dsen tsen ksen gsen ssen qvist quist ström strom inen nnen etti ucci elli wicz zadeh
"""
_ENDINGS = tuple(_ENDINGS_TEXT.split())
_WITH_CAPITAL = re.compile(rf"{_CAPITAL}\w+")
_ASCII_CAPITALS = re.compile(r"[A-Z]\w+", re.ASCII)
_NOT_PERSONS_WORDS = """
    Inc Ltd LLC LLP PLC Corp Corporation Co GmbH AG SA BV AB Group Bank Company Holding Holdings Partners Sons Bros
    Service Services University College School Hospital Institute Foundation Orchestra Hotel Airport Station Museum
    Theatre Theatres Restaurant Stadium Center Centre Street St Road Rd Avenue Ave Av Lane Ln Drive Dr Court Ct
    Square Way Boulevard Blvd Place Pl Crescent Terrace Pass Rue Via Calle Strasse Straße Apt Suite Flat Box City
    County Island Valley Beach River Lake Bridge Day Card Pay Prize Award Edition Pro Plus
"""
NOT_PERSONS = frozenset(_NOT_PERSONS_WORDS.split())
_FOLLOWED = re.compile(rf"(?:,? (?:{'|'.join(sorted(NOT_PERSONS))})\b| & |,? ?\d)")
_FIRM = re.compile(rf"{_NAME}(?:, {_NAME}){{1,9}},? and {_NAME}")
_PLACED = re.compile(r"(?:\b(?:in|near|a|an) |\d ?)\Z", re.IGNORECASE)
_SENTENCE_START = re.compile(r"(?:\A|[.!?:;\n\"“”(…-])\s*\Z")
_ROLE = (
    "customer|client|(?:card|account)? ?holder|contact(?: person)?|patient|passenger|guest|recipient|sender|attention"
    "|employee|owner|applicant|beneficiary|payee|author"
)
_ROLE_WORDS = (
    "customer client holder cardholder accountholder contact person patient passenger guest recipient sender attention"
    " employee owner applicant beneficiary payee author attn"
)
_RELATION = (
    r"kid|child|son|daughter|wife|husband|spouse|partner|fiancé|fiancée|mother|father|mum|mom|dad|brother|sister"
    r"|friend|aunt|uncle|colleague|boss|manager|assistant|doctor|lawyer|landlord|tenant|neighbor|neighbour"
)


def _is_name(value: str) -> bool:
    """Whether a word in a name's place is no ordinary word ("Dear Customer", "I am Italian")."""
    known, first = gazetteer(), _WORD.findall(value)[0]
    if first in known.given or (first in known.family and first not in known.words):
        return True
    return first not in known.words and not first.endswith(("ian", "ish", "ese"))


def _labelled(pattern: str) -> Finder:
    return Finder("PERSON", 0.75, re.compile(pattern), _is_name)


def _introduced(capital: str, small: str) -> re.Pattern[str]:
    # The capital comes first: the search for a pattern that begins with a set of characters is several times faster.
    cues = "|".join(rf"(?<=(?i:{cue} )..)" for cue in ("this is", "i am", "it's", "i['’]m"))
    return re.compile(rf"{capital}['’{small[1:-1]}](?:{cues})")


_ROLE_IS = re.compile(rf":(?:(?<=(?i:er|nt|ct|on|st|ee|ry|or|tn):)|(?<=(?i:er|nt|ct|on|st|ee|ry|or|tn) :)) ?{_CAPITAL}")
_NAME_IS = re.compile(r"name(?: is|'s| ?[:?-])")
_GREETINGS = ("dear", "hi", "hello", "hey", "good morning", "good afternoon", "good evening")
_GREETS = re.compile(
    _CAPITAL + "(?:" + "|".join(f"(?<=(?i:{cue}{comma} ).)" for cue in _GREETINGS for comma in ("", ",")) + ")"
)
_INTRODUCED, _ASCII_INTRODUCED = _introduced(_CAPITAL, _SMALL), _introduced("[A-Z]", "[a-z]")

LABELLED_PERSONS: list[tuple[Prefilter, list[Finder]]] = [
    (
        says("mr mrs ms miss mx dr prof herr herrn frau"),
        [
            Finder(
                "PERSON",
                0.8,
                re.compile(
                    r"\b(?:Mr|Mrs|Ms|Miss|Mx|Dr|Prof|Herrn?|Frau)\b\.? "
                    r"(?:(?:Dr|Prof|Dipl|Ing|med|jur|phil|rer|nat)\b\.?[ -]?){0,4}+"
                    rf"(?P<v>(?:{_PARTICLE} ){{0,2}}{_FULL})"
                ),
            )
        ],
    ),
    (
        says(
            "mme mlle monsieur madame signor signora señor señora rev capt sgt officer judge president senator sir lady"
        ),
        [
            _labelled(
                r"\b(?:Mme|Mlle|Monsieur|Madame|Signora?|Señora?|Rev|Capt|Sgt|Officer|Judge|President|Senator|Sir|Lady)\b"
                rf"\.? (?P<v>{_FULL})"
            )
        ],
    ),
    (
        says(_ROLE_WORDS, test=lambda facts: bool(_ROLE_IS.search(facts.text))),
        [_labelled(rf"\b(?i:{_ROLE}|attn) ?: ?(?P<v>{_FULL})(?=\s*(?:$|[\n,;.(]))")],
    ),
    (
        says("name surname", test=lambda facts: bool(_NAME_IS.search(facts.lower))),
        [_labelled(rf"(?i:\b(?:sur)?name(?: is|'s| ?[:?-]))\s{{0,3}}(?P<v>{_FULL})")],
    ),
    (
        says("dear hi hello hey good", test=lambda facts: bool(_GREETS.search(facts.text))),
        [
            _labelled(
                r"(?m)(?:^|[.!?:\"“] )\W{0,3}(?i:dear|hi|hello|hey|good (?:morning|afternoon|evening)),? "
                rf"(?P<v>{_FULL})\s{{0,3}}(?:[,!.:]|$)",
            )
        ],
    ),
    (
        says(
            "regards sincerely faithfully truly thanks thank cheers best wishes greetings",
            test=lambda facts: "\n" in facts.text,
        ),
        [
            _labelled(
                r"(?i:\b(?:regards|sincerely|faithfully|truly|thanks|thank you|cheers|best|wishes|greetings)"
                rf"[,.!]?[ \t]{{0,3}}\n\s{{0,3}})(?P<v>{_FULL})[ \t]{{0,3}}(?:\Z|[,\n])",
            )
        ],
    ),
    (
        says(
            "grüßen grüße grüssen grüsse gruß mfg cordialement salutations saludos saluti groeten groet",
            test=lambda facts: "\n" in facts.text,
        ),
        [
            _labelled(
                r"(?i:\b(?:grü(?:ß|ss)en?|gruß|mfg|cordialement|salutations|saludos|saluti|groete?n?)"
                rf"[,.!]?[ \t]{{0,3}}\n\s{{0,3}})(?P<v>{_NAME}(?:{_LINK}{_NAME}){{1,3}})[ \t]{{0,3}}(?:\Z|[,\n])",
            )
        ],
    ),
    (
        Prefilter(test=lambda facts: bool((_ASCII_INTRODUCED if facts.is_ascii else _INTRODUCED).search(facts.text))),
        [
            _labelled(
                rf"(?:\b(?i:this is|i am|it's)|\b[Ii]['’]m) (?P<v>{_FULL})"
                r"(?= (?:here|speaking|from|and|calling|writing)\b|,|\.?\s*\Z)",
            )
        ],
    ),
    (
        Prefilter(piece="@"),
        [_labelled(rf"(?P<v>{_NAME}(?:{_LINK}{_NAME}){{1,3}}) ?[<(][^\s<>@]{{1,64}}@[^\s<>@]{{1,99}}[>)]")],
    ),
    (
        says(_RELATION.replace("|", " ") + " spoke talked chatted"),
        [
            _labelled(
                rf"\b(?i:(?:my|his|her|their|our) (?:{_RELATION}),?|(?:spoke|talked|chatted) (?:to|with)) "
                rf"(?P<v>{_FULL})",
            )
        ],
    ),
    (
        says("named called calls behalf lives"),
        [
            _labelled(rf"\b(?i:named|called|calls|on behalf of) (?:(?:me|him|her) )?(?P<v>{_FULL})"),
            _labelled(rf"(?<!\w)(?P<v>{_FULL}) lives (?:at|in|on)\b"),
        ],
    ),
]


class KnownNames:
    """Finds runs of words with capitals that hold a known name, a family name's ending, or an initial."""

    @staticmethod
    def may_find(facts: SpanFacts) -> bool:
        words = (_ASCII_CAPITALS if facts.is_ascii else _WITH_CAPITAL).findall(facts.text)
        if (words and not gazetteer().parts.isdisjoint(words)) or _MIDDLE_INITIAL.search(facts.text):
            return True
        for word in words:  # noqa: SIM110 - any() takes twice as long here, and every text passes here
            if word.endswith(_ENDINGS):
                return True
        return False

    @staticmethod
    def spans(text: str) -> Iterator[Span]:
        for run in _ALL_CAPITALS.finditer(text):
            if run[1].title() in gazetteer().given and run[2] in gazetteer().parts:
                yield Span(*run.span(), "PERSON", run[0], 0.6)
        firms = [range(*match.span()) for match in _FIRM.finditer(text)]
        for run in _RUN.finditer(text):
            words = list(_WORD.finditer(text, *run.span()))
            while words and (not _begins(words) or _opens(words, text)):
                words.pop(0)
            while words and words[-1][0] in gazetteer().words and not _MIDDLE_INITIAL.search(run[0]):
                words.pop()
            if not words or not NOT_PERSONS.isdisjoint(word[0] for word in words):
                continue
            start, end = words[0].start(), words[-1].end()
            if _FOLLOWED.match(text, end) or any(start in firm for firm in firms):
                continue
            if _is_full_name(words, text[start:end]) if len(words) > 1 else _is_single_name(words[0], text):
                yield Span(start, end, "PERSON", text[start:end], 0.6)


def further_mentions(text: str, names: Iterable[str]) -> Iterator[Span]:
    """Further places of each word of some names in the text, also in capitals."""
    words = {word for name in names for word in _WORD.findall(name)} - gazetteer().words - gazetteer().openers
    if words:
        for start, end in WholeWords(words | {word.upper() for word in words}).spans(text):
            if "@" not in (text[start - 1 : start], text[end : end + 1]):
                yield Span(start, end, "PERSON", text[start:end], 0.5)


def _begins(words: list[re.Match[str]]) -> bool:
    """Whether the first word can begin a name. An ordinary word can if it is a given name before a family name."""
    known = gazetteer()
    if words[0][0] not in known.words:
        return True
    return len(words) > 1 and words[0][0] in known.given and _is_family(words[1][0])


def _opens(words: list[re.Match[str]], text: str) -> bool:
    """Whether the first word opens a sentence in another language ("Ich bin Anna"), and is no given name before a
    family name ("Per Andersson")."""
    first, known = words[0], gazetteer()
    if first[0] not in known.openers:
        return False
    if len(words) > 1 and first[0] in known.given and _is_family(words[1][0]):
        return False
    if len(words) > 1 and (words[1][0] in known.given or text[first.end() : words[1].start()].strip(" .")):
        return True  # "Kunde Anna Stein", or a particle
    return bool(_SENTENCE_START.search(_before(first, text)))


def _before(word: re.Match[str], text: str) -> str:
    """What stands just before a word."""
    return text[max(0, word.start() - 20) : word.start()]


def _is_full_name(words: list[re.Match[str]], name: str) -> bool:
    first, last = words[0][0], words[-1][0]
    if first.split("-")[0] in gazetteer().given or _is_family(last) or _MIDDLE_INITIAL.search(name):
        return True
    return _is_family(first) and last in gazetteer().given  # the family name comes first in much of the world


def _is_single_name(word: re.Match[str], text: str) -> bool:
    """Whether a single word is a name. At the beginning of a sentence every word has a capital, so there it must be a
    well-known name, or stand at the text's end."""
    before = _before(word, text)
    if _PLACED.search(before) or word[0] in gazetteer().openers:
        return False
    if _SENTENCE_START.search(before) and text[word.end() :].strip():
        return word[0] in gazetteer().alone
    return word[0] in gazetteer().given or word[0] in gazetteer().alone or _has_ending(word[0])


def _is_family(word: str) -> bool:
    known = gazetteer()
    return word not in known.words and (word in known.family or _has_ending(word))


def _has_ending(word: str) -> bool:
    return len(word) > 4 and word.endswith(_ENDINGS)
