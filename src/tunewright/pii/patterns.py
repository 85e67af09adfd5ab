"""Patterns of numbers, network addresses, keys and tokens, each group with its gate.

A form that proves itself, by a check digit or a vendor's prefix, scores near 1. A form that other things share, such as
a phone number without a label, scores less.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable

from tunewright.pii.checks import (
    compact,
    digits_of,
    is_bsn,
    is_card,
    is_codice_fiscale,
    is_dni,
    is_iban,
    is_luhn,
    is_nir,
    is_pesel,
    is_ssn,
    is_steuer_id,
)
from tunewright.pii.spans import Finder, Prefilter, has_number, holds, says


def _is_ip(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _is_phone(text: str) -> bool:
    return 7 <= len(digits_of(text)) <= 15 and not _LIKE_A_DATE.match(text)


_DAY, _OF_YEAR = r"(?:0?[1-9]|[12]\d|3[01])", r"(?:0?[1-9]|1[0-2])"
_LIKE_A_DATE = re.compile(
    rf"{_DAY}[./-]{_OF_YEAR}[./-](?:(?:19|20)\d{{2}}|\d{{2}})(?![./ -]?\d)"
    rf"|(?:19|20)\d{{2}}[./-]{_OF_YEAR}[./-]{_DAY}(?![./-]?\d)"
)


def _labelled(labels: str, value: str) -> str:
    """A value after one of some words, with a little punctuation and up to three small words in between."""
    between = rf"[\s\W]{{0,4}}?(?i:(?:{_BETWEEN})\b[\s\W]{{0,3}}?){{0,3}}"
    return rf"(?i:\b(?:{labels}))\b{between}(?P<v>{value})"


_BETWEEN = (
    "is|it'?s|was|no|nr|number|me|us|him|her|on|at|to|my"
    "|ist|lautet|am|unter|auf|nummer|den|le|est|au|numéro|el|es|número|il|è|op"
)
_MONTH = (
    "(?i:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec|mär|mrz|mai|okt|dez|fév|avr|juin|juil|aoû|déc|ene|abr|ago|dic"
    "|gen|mag|giu|lug|set|ott|maa|mei)[a-zà-ÿ]*"
)
_DATE = (
    r"\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}"
    rf"|\d{{1,2}}(?:st|nd|rd|th)?\.? (?:of |de )?{_MONTH}\.?,? (?:de )?\d{{4}}"
    rf"|{_MONTH}\.? \d{{1,2}}(?:st|nd|rd|th)?,? \d{{4}}"
)
_END = r"(?![A-Za-z0-9_-])"
_START = r"(?<![\w.+])(?<!\w-)"  # a hyphen without a word before it marks an item of a list
_SEPARATED = (
    r"\+\d{1,3}[ .-]?(?:\(0?\d{0,4}\)[ .-]?)?\d{1,4}(?:[ .-]?\d{2,4}){1,5}"  # +46 (0)8 928 571 38
    r"|(?:00\d{1,2}[ .-])?\(\d{1,5}\)[ .-]?\d{2,4}(?:[ .-]\d{2,4}){1,3}"  # (37) 788-063
    r"|(?:00?1[ .-])?\d{3}[ .-]\d{3}[ .-]\d{4}"  # 905-674-3793
    r"|00?[1-9]\d{0,3}(?:[ .-]\d{2,4}){2,4}"  # 0490 75 40 81
    r"|00[1-9]\d{1,2}[ -]\d{1,5}[ -]\d{6,8}"  # 0043 664 1234567
    r"|01(?:5[12579]\d?|6[023]|7\d)[ /-](?:\d{7,8}|\d{3,4} \d{3,5})"  # 0170 1234567, German mobile phones
)
_CARD = r"\d(?:(?:[ -]?|(?<=\d{4})\.(?=\d{4}))\d){11,18}(?![\w-])"  # dots only between groups: 4.11 is a number
_ANY_PHONE = r"\+?\(?\d(?:[ .()/-]{0,2}\d){6,14}"


def _secret(label: str) -> Finder:
    """A value with a digit after a label, which may have quotes, as in JSON."""
    return Finder(
        "SECRET",
        0.8,
        re.compile(
            rf"(?i:{label}\b[\"']?(?: is(?:(?=\s)| ?[:=])|\s?[ \t]{{0,8}}[:=]))\s?[ \t]{{0,8}}[\"']?"
            r"(?P<v>[^\s\"',;]{4,})"
        ),
        lambda v: any(c.isdigit() for c in v),
    )


def _copied(kind: str, score: float, pattern: str) -> Finder:
    """A key whose characters include the hyphen."""
    return Finder(kind, score, re.compile(pattern), copied=True)


def _national(labels: str, value: str, check: Callable[[str], bool] = lambda _: True) -> Finder:
    """A number that a state gives a person, after one of some words."""
    return Finder("NATIONAL_ID", 0.9, re.compile(_labelled(labels, value)), check)


# A password may hold "/". If it does, what stands before it must not be a host: digits before "/" are a port.
_LOGIN = r"[^\s/@:]*:[^\s/@]+|[^\s/@:.\[]*:(?!\d{1,5}/)[^\s@\"'<>]{1,64}"
# It may hold "@", too, and "/" behind it if that is no host with a dot or a port, and "@" with a host follows.
_MORE_PASSWORD = r"@[^\s/@\"'<>]+(?=@)|@[^\s/@.:?#\"'<>]+/[^\s@?#\"'<>]{1,64}(?=@\w)"

_NAMED_SECRET = re.compile("_(?:passw|pwd|passphrase|api_?key|secret)")

_PHONE_WORDS = (
    "phone|mobile|cell|tel|telephone|fax|whatsapp|call|text|sms|messages?|reach"
    "|handy|handynummer|mobil|mobilnummer|telefon|telefonnummer|rufnummer|rückruf|rückrufnummer|erreichbar"
    "|téléphone|tél|portable|teléfono|telefono|móvil|movil|celular|cellulare|telefoon|telefoonnummer|mobiel|telefone"
)
_CODICE_FISCALE = "[A-Z]{6}[0-9]{2}[A-EHLMPRST][0-9]{2}[A-Z][0-9]{3}[A-Z]"
_NIR = "[12] ?[0-9]{2} ?(?:0[1-9]|1[0-2]|[2-9][0-9]) ?(?:[0-9]{2}|2[AB]) ?[0-9]{3} ?[0-9]{3} ?[0-9]{2}"
_NINO = "(?!BG|GB|KN|NK|NT|TN|ZZ)[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z] ?[0-9]{2} ?[0-9]{2} ?[0-9]{2} ?[A-D]"
_NATIONAL = re.compile(rf"{_CODICE_FISCALE}|{_NIR}")
_NATIONAL_WORDS = (
    "steuer steuerid idnr identifikationsnummer steueridentifikationsnummer versicherungsnummer"
    " sozialversicherungsnummer rentenversicherungsnummer sv rv svnr rvnr dni nie nif documento identidad bsn"
    " burgerservicenummer pesel nino ni insurance"
)
_CLOUD_KEY = re.compile("A(?:KIA|SIA|ROA|IDA|Iza)")
_IBAN_OR_IP = re.compile(r"\d(?:\d(?<=[A-Za-z]{2}\d\d)|\.\d{1,3}\.\d)")


PATTERNS: list[tuple[Prefilter, list[Finder]]] = [
    (
        Prefilter(piece="@"),
        [
            Finder(
                "EMAIL",
                0.99,
                # RFC 5321: an address has at most 256 characters, with its angle brackets.
                re.compile(r"(?<![\w.+-])[.+-]*+(\w[\w.+%'-]{0,255}+@(?:\w[\w-]*+(?<!-)\.)+[^\W\d_]{2,24})(?![\w@])"),
            ),
            Finder(
                "URL_LOGIN",
                1.0,
                re.compile(rf"(?<=://)(?P<v>(?:{_LOGIN})(?:{_MORE_PASSWORD})*)@"),
            ),
        ],
    ),
    (
        Prefilter(digit=True, test=has_number),
        [
            Finder("CARD", 0.95, re.compile(rf"{_START}(?=({_CARD}))"), lambda v: is_card(digits_of(v)), cut=True),
            Finder(
                "SSN", 0.9, re.compile(rf"{_START}\d{{3}}-\d{{2}}-\d{{4}}(?![\w-])"), lambda v: is_ssn(digits_of(v))
            ),
            Finder("PHONE", 0.7, re.compile(rf"{_START}(?<!/)(?<!\d )(?:{_SEPARATED})(?![\w]|[./-]\d| \d)"), _is_phone),
        ],
    ),
    (
        says("card", digit=True, test=has_number),
        [
            Finder(
                "CARD",
                0.9,
                re.compile(_labelled(r"card(?: (?:number|no|nr))?", _CARD)),
                lambda v: len(number := digits_of(v)) >= 12 and is_luhn(number),
                cut=True,
            )
        ],
    ),
    (
        says("ssn social", digit=True, test=has_number),
        [
            Finder(
                "SSN",
                0.9,
                re.compile(_labelled(r"ssn|social security(?: number| no)?", r"\d{3}[ .-]?\d{2}[ .-]?\d{4}(?!\d)")),
                lambda v: is_ssn(digits_of(v)),
            )
        ],
    ),
    (
        says(_PHONE_WORDS.replace("messages?", "message|messages").replace("|", " "), digit=True, test=has_number),
        [Finder("PHONE", 0.8, re.compile(_labelled(_PHONE_WORDS, _ANY_PHONE + r"(?![\w])")), _is_phone)],
    ),
    (
        says("phone mobile cell fax office home work", digit=True, test=has_number),
        [
            Finder(
                "PHONE",
                0.8,
                re.compile(
                    rf"{_START}(?<!/)(?P<v>{_ANY_PHONE})(?i:[ ,(-]{{1,2}}(?:phone|mobile|cell|fax|office|home|work)\b)"
                ),
                _is_phone,
            )
        ],
    ),
    (
        Prefilter(digit=True, test=lambda facts: bool(_IBAN_OR_IP.search(facts.text))),
        [
            Finder(
                "IBAN",
                0.99,
                re.compile(r"(?<!\w)[A-Za-z]{2}\d{2}(?:[ .-]?[A-Za-z0-9]{4}){2,7}(?:[ .-]?[A-Za-z0-9]{1,4})?(?!\w)"),
                lambda v: is_iban(compact(v)),
                cut=True,
            ),
            Finder(
                "IP",
                0.9,
                re.compile(
                    r"(?i:(?<!version )(?<!version: )(?<!release )(?<!build )(?<!firmware ))"
                    r"(?<![\w.])\d{1,3}(?:\.\d{1,3}){3}(?![\w-]|\.\w)"
                ),
                _is_ip,
            ),
        ],
    ),
    (
        Prefilter(piece=":", test=lambda facts: facts.text.count(":") >= 3),
        [Finder("IP", 0.95, re.compile(r"(?<![\w:.])(?:[0-9A-Fa-f]{0,4}:){3,7}[0-9A-Fa-f]{1,4}(?![\w:])"), _is_ip)],
    ),
    (
        says(
            "birth birthdate birthday dob born b ob geburtsdatum geburtstag geboren geb né née naissance nacido nacida"
            " nacimiento nato nata nascita nascido nascida nascimento geboortedatum",
            digit=True,
        ),
        [
            Finder(
                "BIRTH_DATE",
                0.9,
                re.compile(
                    _labelled(
                        r"date of birth|birth ?date|birthday|d\.?o\.?b\.?|born|geburtsdatum|geburtstag|geboren|geb"
                        r"|née?|naissance|nacid[oa]|nacimiento|nat[oa] il|nascita|nascid[oa]|nascimento|geboortedatum",
                        _DATE,
                    )
                ),
            )
        ],
    ),
    (
        Prefilter(digit=True, test=lambda facts: bool(_NATIONAL.search(facts.text))),
        [
            Finder("NATIONAL_ID", 0.95, re.compile(rf"(?<!\w){_CODICE_FISCALE}(?!\w)"), is_codice_fiscale),
            Finder("NATIONAL_ID", 0.95, re.compile(rf"(?<![\w.+-]){_NIR}(?!\w)"), lambda v: is_nir(compact(v))),
        ],
    ),
    (
        says(_NATIONAL_WORDS, digit=True),
        [
            _national(
                r"steuer[- ]?id(?:ent)?(?:ifikationsnummer|nummer|nr)?|(?:steuerliche )?identifikationsnummer|idnr",
                r"\d(?: ?\d){10}(?!\d)",
                lambda v: is_steuer_id(digits_of(v)),
            ),
            _national(
                r"(?:sozial|renten)?versicherungsnummer|(?:sv|rv|rvnr|svnr)(?:[- ]?(?:nummer|nr))?",
                r"\d{2} ?\d{6} ?[A-Z] ?\d{3}(?!\w)",
            ),
            _national(
                "dni|nie|nif|documento|identidad",
                r"(?:[XYZ][ -]?)?\d{7,8}[ -]?[A-HJ-NP-TV-Za-hj-np-tv-z](?!\w)",
                lambda v: is_dni(compact(v)),
            ),
            _national("bsn|burgerservicenummer", r"\d(?:[ .]?\d){8}(?!\d)", lambda v: is_bsn(digits_of(v))),
            _national(r"nino|ni (?:number|no)|national insurance(?: number| no)?", rf"{_NINO}(?!\w)"),
            _national("pesel", r"\d{11}(?!\d)", lambda v: is_pesel(digits_of(v))),
        ],
    ),
    (
        Prefilter(piece="A", test=lambda facts: bool(_CLOUD_KEY.search(facts.text))),
        [
            Finder("AWS_KEY", 0.99, re.compile(rf"\b(?:AKIA|ASIA|AROA|AIDA)[A-Z0-9]{{16}}{_END}")),
            _copied("GOOGLE_KEY", 0.99, rf"\bAIza[A-Za-z0-9_-]{{35}}{_END}"),
        ],
    ),
    (
        Prefilter(test=lambda facts: "secret" in facts.lower and "aws" in facts.lower),
        [
            Finder(
                "AWS_SECRET", 0.95, re.compile(r"(?i:aws.{0,20}secret.{0,20}?[\s:=\"']++)(?P<v>[\w/+]{40})(?![\w/+=])")
            )
        ],
    ),
    (
        Prefilter(piece="=", test=lambda facts: "key=" in facts.lower),
        [Finder("AZURE_KEY", 0.99, re.compile(r"(?i:(?:account|sharedaccess)key=)(?P<v>[A-Za-z0-9+/]{40,}={0,2})"))],
    ),
    (
        Prefilter(piece="sig="),
        [
            # An address with a signature in it opens what it names: 43 signs of base64, perhaps escaped for addresses.
            _copied(
                "AZURE_KEY",
                0.99,
                r"(?<=[?&;]sig=)(?:[A-Za-z0-9+/_-]|%2[BbFf]){43}(?:={1,2}|%3[Dd])?(?![A-Za-z0-9+/_%=-])",
            )
        ],
    ),
    (
        Prefilter(piece="sk-"),
        [
            _copied("OPENAI_KEY", 0.95, rf"\bsk-(?!ant-)(?:[a-z]+-)?[A-Za-z0-9_-]{{20,}}{_END}"),
            _copied("ANTHROPIC_KEY", 0.99, rf"\bsk-ant-[A-Za-z0-9_-]{{20,}}{_END}"),
        ],
    ),
    (
        holds("_", "ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_"),
        [Finder("GITHUB_TOKEN", 0.99, re.compile(rf"\b(?:gh[pousr]_[A-Za-z0-9]{{36,}}|github_pat_\w{{36,}}){_END}"))],
    ),
    (
        Prefilter(piece="xox"),
        [
            _copied(
                "SLACK_TOKEN",
                0.99,
                r"(?<![A-Za-z0-9-])(?>[A-Za-z0-9-]*?\b(?=xox[abeoprs]-))"
                rf"(xox[abeoprs]-[A-Za-z0-9-]{{10,}}+){_END}",
            )
        ],
    ),
    (
        Prefilter(piece="hooks.slack.com/services/"),
        [Finder("SLACK_WEBHOOK", 0.99, re.compile(r"(?<=hooks\.slack\.com/services/)T\w+/B\w+/\w+"))],
    ),
    (
        holds("_", "k_live_", "k_test_"),
        [Finder("STRIPE_KEY", 0.99, re.compile(rf"\b[rs]k_(?:live|test)_[A-Za-z0-9]{{16,}}{_END}"))],
    ),
    (
        Prefilter(piece=".eyJ"),
        [
            _copied(
                "JWT",
                0.99,
                # One try for each run of a token's characters, from the first place where a token can begin.
                r"(?<![A-Za-z0-9_-])(?>[A-Za-z0-9_-]*?\b(?=eyJ))"
                rf"(eyJ[A-Za-z0-9_-]{{8,}}+\.eyJ[A-Za-z0-9_-]{{8,}}+\.[A-Za-z0-9_-]*+{_END})",
            )
        ],
    ),
    (
        Prefilter(piece="-----BEGIN "),
        [
            Finder(
                "PRIVATE_KEY",
                1.0,
                # A key without its last line ends with the text.
                re.compile(
                    r"-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY(?: BLOCK)?-----"
                    r"(?s:.*?)(?:-----END (?:[A-Z0-9]+ )*PRIVATE KEY(?: BLOCK)?-----|\Z)"
                ),
            )
        ],
    ),
    (
        says("password passwd pwd passphrase pin api_key apikey api secret"),
        [_secret(r"\b(?:password|passwd|pwd|passphrase|pin|api[ _-]?key|secret)")],
    ),
    (
        Prefilter(piece="_", test=lambda facts: bool(_NAMED_SECRET.search(facts.lower))),
        [_secret(r"_(?:password|passwd|pwd|passphrase|api_?key|secret)")],  # DB_PASSWORD=
    ),
]
