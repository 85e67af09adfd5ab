"""Finding postal addresses: streets, units, boxes, and the lines with city and postal code after them.

It finds American and British forms ("12 Elm Street, Apt 4"), those of languages that put the street's kind in front
("Rue du Bac 7", "ul. Miła 5") or into its name ("Villacher Strasse 89"), post boxes, military mail, and text after
words such as "zip code is" or "address:". It does not look for a city or a country alone, which says little about a
person.
"""

from __future__ import annotations

import re

from tunewright.pii.spans import Finder, Prefilter, SpanFacts, holds, says

_BEHIND = (
    "Street|St|Avenue|Ave|Av|Road|Rd|Lane|Ln|Drive|Dr|Court|Ct|Square|Sq|Way|Boulevard|Blvd|Place|Pl|Plaza|Plz|Crescent"
    "|Cres|Terrace|Ter|Terr|Close|Parkway|Pkwy|Highway|Hwy|Circle|Cir|Trail|Trl|Alley|Row|Walk|Mews|Gardens|Grove|Hill"
    "|Loop|Pike|Turnpike|Expressway|Expy|Freeway|Fwy|Crossing|Landing|Point|Pass|Path|Ridge|Run|Broadway|Quay|Parade"
    "|Esplanade|Extensions?|Route|Rte|Cove|Cv|View|Hollow|Bend|Heights|Hts|Causeway|Cswy|Trace|Vista|Glen|Knoll|Manor"
)
_FRONT = (
    r"Rue|Via|Viale|Vicolo|Corso|Piazza|Calle|Avenida|Avda\.?|Paseo|Plaza|Rua|Travessa|Largo|Praça|Avenue|Av\.?"
    r"|Boulevard|Bd|Chemin|Quai|Impasse|Allée|Strada|Bulevardul|Ulica|[Uu]l\.|Ulice|Aleja|[Aa]l\.|Λεωφόρος|Οδός|Jalan|Jl\."
)
_SMALL_FRONT = "rue|chemin|impasse|allée|quai|calle|piazza|viale"
"""Of the same, those that people write in small letters behind a number."""
_JOINED = (
    r"(?:stra(?:ß|ss)e|str\.|gasse|weg|platz|allee|ufer|damm|gata|gatan|götu|vägen|vegur|vej|vejen|gade|stræti|straeti"
    r"|veien|katu|kuja|polku|laan|straat|plein|gracht|kade|dijk|utca)"
)
_PARTICLES = "de|del|della|delle|dei|degli|des|do|da|dos|du|la|le|les|of|van|der|den|the|und|y|i"
_WORD = r"(?:[A-ZÀ-ÞĀ-Ž][\w'’.-]{0,30}|\d{1,3}(?:st|nd|rd|th|ST|ND|RD|TH))"
_WORDS = rf"{_WORD}(?: (?:{_WORD}|{_PARTICLES}|[NSEW]\.?)){{0,4}}"
_OF = rf"(?:(?:{_PARTICLES}) |l'){{0,2}}"
_NUMBER = r"\d{1,6}(?:[-/]\d{1,5})?[A-Za-z]?"
_NAMED_UNIT = (
    r"(?i:apt|apartment|suite|ste|unit|flat|room|rm|floor|fl|bldg|building|lot|trlr|space|spc)\b\.? ?#?[A-Za-z]?\d*"
    r"[A-Za-z]?\b"
)
_UNIT = rf"(?:{_NAMED_UNIT}|# ?\w{{1,5}}\b)"
_STATE = (
    "A[KLRZ]|C[AOT]|D[CE]|FL|GA|HI|I[ADLN]|K[SY]|LA|M[ADEINOST]|N[CDEHJMVY]|O[HKR]|P[AR]|RI|S[CD]|T[NX]|UT|V[AIT]"
    "|W[AIVY]"
)
_ZIP = r"\d{5}(?:-\d{4})?"
_GAP = r"[\s,]{1,6}"
_UNITS = rf"(?:{_GAP}{_UNIT}){{0,2}}"
# A hyphen counts as part of a word only: if it could also join words, a text would have very many readings.
_TOWN = rf"(?:{_GAP}[A-ZÀ-ÞĀ-Ž][\w'’.-]++(?: [A-ZÀ-ÞĀ-Ž][\w'’.-]++){{0,3}})?{_GAP}(?:{_STATE})\b(?:,? {_ZIP})?"
_PLACES = (
    rf"(?:{_GAP}(?!{_ZIP})[A-ZÀ-ÞĀ-Ž][\w'’.-]*(?: [A-ZÀ-ÞĀ-Ž(][\w'’.)-]*){{0,3}}){{0,4}}{_GAP}\d{{4,5}}(?!\w|[-.]\d)"
)
_TAIL = rf"{_UNITS}(?:{_TOWN}|{_GAP}{_ZIP}|{_PLACES})?(?!\w)"

# Kinds of street that have few other meanings in lower case.
_PLAIN = "street|st|avenue|ave|road|rd|lane|ln|drive|dr|boulevard|blvd|parkway|pkwy|highway|hwy|court|ct|circle|cir"
_PLAIN_WORD = (
    r"(?!(?:a|an|the|on|in|at|to|of|for|by|my|your|and|or|is|was|days?|hours?|weeks?|times?|stars?|more|off|per)\b)"
    r"[\w'’]+"
)
_COMPASS = r"(?:(?:[NSEWnsew]{1,2}\b\.?|(?i:north|south|east|west)) )?"
_BESIDE = r"(?: (?:[NSEW]{1,2}\b\.?|(?i:north|south|east|west)\b))?"

_CODE = r"(?=[A-Z\d -]{0,9}\d)(?:[A-Z\d]{1,4} [A-Z\d]{3}|[A-Z\d]{3,5}(?:[ -][A-Z\d]{2,4})?)(?![\w-])"


def _address(*patterns: str) -> list[Finder]:
    return [Finder("ADDRESS", 0.85, re.compile(pattern)) for pattern in patterns]


def _holds_joined(facts: SpanFacts) -> bool:
    ends = (match.start() for match in _SPACE_AND_DIGIT.finditer(facts.lower))
    return any(facts.lower.endswith(_JOINED_ENDS, 0, end) for end in ends)


_JOINED_ENDS = tuple(_JOINED[3:-1].replace("stra(?:ß|ss)e", "straße|strasse").replace("\\", "").split("|"))
_SPACE_AND_DIGIT = re.compile(r" \d")

# These begin with a character or a set of characters: the search for such patterns is several times faster.
_CUED = re.compile(r"[\dA-ZÀ-ÞĀ-Ž](?<=(?i:[esgd] at|[esgd] on|[trdp] to|s is|ss :|ess:)\s.)")
_LINE = r"\W{0,6}\d[\w/-]{0,12} [\dA-ZÀ-ÞĀ-Ž]"
_FRONT_MARKS = (
    *(mark.removesuffix("\\.?").replace("\\", "") for mark in _FRONT.split("|") if "[" not in mark),
    *("Ul.", "ul.", "Al.", "al."),
    *_SMALL_FRONT.split("|"),
)
_FRONT_WORDS = frozenset(mark.lower().rstrip(".") for mark in _FRONT_MARKS)
_FIRST_LINE, _OTHER_LINE = re.compile(_LINE), re.compile(rf"\n{_LINE}")
_STATE_AND_ZIP = re.compile(rf", (?:{_STATE})\b,? \d")
_ENDS_IN_ZIP = re.compile(rf"\d{{5}}(?:(?<=\W(?i:{_STATE}) \d{{5}})|(?<=\W(?i:{_STATE}), \d{{5}}))")
_BEHIND_WORDS = _BEHIND.lower().replace("extensions?", "extension|extensions").replace("|", " ")
_NUMBER_AND_WORD = re.compile(r"\d[\w/-]{0,12} [\w']")
_TOWN_WORD = r"[A-Z][\w'’.-]{1,30}"

_UNIT_WORDS = "apt apartment suite ste unit flat room rm floor fl bldg building lot trlr space spc"
KEPT_ENDINGS = tuple(end.rstrip(".") for end in _JOINED_ENDS)
_KEPT = (
    f"{_BEHIND} {_FRONT} {_UNIT_WORDS} {_PARTICLES} po box north south east west fpo apo dpo state county"
    " strasse straße"
)
KEPT_WORDS = frozenset(re.findall(r"\w+", _KEPT.lower())) | set(KEPT_ENDINGS)
"""Words that mark an address without locating it; a stand-in keeps them."""

ADDRESSES: list[tuple[Prefilter, list[Finder]]] = [
    (
        says(_BEHIND_WORDS, digit=True, test=lambda facts: bool(_NUMBER_AND_WORD.search(facts.text))),
        _address(
            # 18500 N. Allied Way, Phoenix, AZ 85054
            rf"(?<![\w#.-]){_NUMBER} (?:{_NUMBER} )?{_COMPASS}{_WORDS} (?i:{_BEHIND})\b\.?{_BESIDE}{_TAIL}",
            rf"(?<![\w#.-]){_NUMBER} {_COMPASS}(?:{_PLAIN_WORD} ){{1,2}}(?:{_PLAIN})\b\.?{_BESIDE}{_TAIL}",
        ),
    ),
    (
        Prefilter(_FRONT_WORDS, digit=True, test=lambda facts: any(mark in facts.text for mark in _FRONT_MARKS)),
        # 20 Rue Hsine Eloued; ul. Miła 53
        _address(
            rf"(?<![\w.])(?:{_NUMBER},? ){{1,2}}(?:{_FRONT}|{_SMALL_FRONT}) {_OF}{_WORDS}(?:,? {_NUMBER}\b)?{_TAIL}",
            rf"(?<!\w)(?:{_FRONT}|rue|calle|piazza|viale) {_OF}{_WORDS},? {_NUMBER}\b{_TAIL}",
        ),
    ),
    (
        says(
            "place route highway",
            digit=True,
            test=lambda facts: any(mark in facts.text for mark in ("Place", "Route", "Highway")),
        ),
        _address(rf"(?<![\w.])(?:{_NUMBER},? ){{1,2}}(?:Place|Route|Highway) {_OF}{_WORDS}(?:,? {_NUMBER}\b)?{_TAIL}"),
    ),
    (
        Prefilter(digit=True, test=_holds_joined),
        _address(
            # Villacher Strasse 89
            rf"(?<![\w.])(?:{_NUMBER},? )?(?:(?:{_WORDS}[ -])?[A-ZÀ-ÞĀ-Ž][\w-]{{0,40}}{_JOINED}"
            rf"|{_WORDS}[ -](?i:{_JOINED})) {_NUMBER}\b{_TAIL}",
        ),
    ),
    (
        says(_UNIT_WORDS, digit=True),
        # 27534 Spinatsch 94, Apt. 615: any words between a number and a unit
        _address(rf"(?<![\w.-]){_NUMBER} {_WORDS}\.?(?: {_NUMBER}\.?)?{_GAP}{_NAMED_UNIT}{_TAIL}"),
    ),
    (
        Prefilter(digit=True, test=lambda facts: bool(_ENDS_IN_ZIP.search(facts.text))),
        # 305 Main, Fort Cobb, OK 73038: any words between a number and a state with its code
        _address(
            rf"(?<![\w#.-]){_NUMBER} (?:[\w.#&'’/-]{{1,30}},? ){{1,9}}?"
            rf"(?:{_STATE}|(?!(?i:in|or|me|hi|ok|oh|de|la)\b)(?i:{_STATE})),? {_ZIP}(?!\w)"
        ),
    ),
    (
        says(
            "road rd route rte highway hwy loop",
            digit=True,
            test=lambda facts: bool(_NUMBER_AND_WORD.search(facts.text)),
        ),
        # 1341 State Road 75
        _address(
            rf"(?<![\w#.-]){_NUMBER} {_COMPASS}(?:(?:[A-Z][\w.]{{0,20}}|state|county) ){{0,3}}"
            rf"(?i:road|rd|route|rte|highway|hwy|loop) (?i:no\.? )?\d{{1,4}}[A-Z]?\b{_BESIDE}{_TAIL}"
        ),
    ),
    (
        says("box pobox obox", digit=True),
        _address(rf"(?:(?<!\w){_NUMBER} )?\b(?i:p\.? ?o\.? ?box) \d{{1,6}}\b{_TAIL}"),
    ),
    (
        holds("P", "FPO", "APO", "DPO"),
        _address(r"(?:(?:[A-Z]\w{1,30} ){1,2}[A-Z]\w{1,30}\n|\b)[FAD]PO,? A[AEP] \d{5}\b"),
    ),
    (
        Prefilter(digit=True, test=lambda facts: bool(_STATE_AND_ZIP.search(facts.text))),
        # Phoenix, AZ 85054
        _address(rf"(?<!\w){_TOWN_WORD}(?: {_TOWN_WORD}){{0,2}}, (?:{_STATE})\b,? {_ZIP}(?!\w)"),
    ),
    (
        Prefilter(digit=True, test=lambda facts: bool(_FIRST_LINE.match(facts.text) or _OTHER_LINE.search(facts.text))),
        _address(rf"(?m)^\W{{0,6}}({_NUMBER} {_WORDS} {_NUMBER})$"),  # a whole line
    ),
    (
        says("zip zipcode postal postcode post postalcode", digit=True),
        _address(rf"(?i:\b(?:zip(?:[ -]?code)?|post(?:al)?[ -]?code)(?: is| ?:)?) ({_CODE})"),
    ),
    (
        says(
            "address lives live living located reside resides resided sent send deliver delivered ship shipped",
            digit=True,
            test=lambda facts: bool(_CUED.search(facts.text)),
        ),
        _address(
            r"(?i:\b(?:address(?: is| ?:)|(?:lives?|living|located|reside[sd]?) (?:at|on)"
            r"|(?:sent|send it|deliver(?:ed)?|ship(?:ped)?) to))\s"
            rf"((?:{_NUMBER} ){{1,2}}{_WORDS}(?: {_NUMBER}\.?(?!\w))?{_TAIL}|{_WORDS} {_NUMBER}(?!\w){_TAIL})",
        ),
    ),
]
