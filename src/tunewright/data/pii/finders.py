"""Finding personal data and secrets by their form: patterns, check digits, and the words before them.

Forms that prove themselves (a check digit, a vendor's prefix) score near 1; forms that other things share (a phone
number without a label) score less. There is no model behind this. Names are found only behind a title or a phrase such
as "my name is"; addresses, organisations and names elsewhere are not found at all. bench/pii.py measures each kind.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from tunewright.data.pii.checks import digits_of, is_card, is_iban, is_luhn, is_ssn


@dataclass(frozen=True)
class Span:
    """Where a text holds personal data or a secret. Its repr leaves the value out, so that no log shows it."""

    start: int
    end: int
    kind: str
    text: str = field(repr=False)
    score: float
    """From 0 to 1: how seldom something else has this form."""


@dataclass(frozen=True)
class _Finder:
    kind: str
    score: float
    pattern: re.Pattern[str]
    """The value is its group, or where it has none the whole match; a group "v" stands behind words that name it."""
    check: Callable[[str], bool] = lambda _: True
    cut: bool = False
    """Whether words at the end that the check doesn't accept may belong to the next thing in the text."""

    def spans(self, text: str) -> Iterator[Span]:
        for match in self.pattern.finditer(text):
            start, end = match.span(self.pattern.groups)
            while not self.check(text[start:end]):
                end = max(text.rfind(" ", start, end), text.rfind("-", start, end)) if self.cut else -1
                if end < 0:
                    break
            else:
                yield Span(start, end, self.kind, text[start:end], self.score)


def find_pii(text: str) -> list[Span]:
    """The spans that hold personal data or secrets, in order, none overlapping.

    Where forms overlap, the higher score and then the longer one wins. A value found by the words before it is found
    wherever else it stands in the text.
    """
    kept: list[Span] = []
    taken = bytearray(len(text))
    for span in sorted(_spans(text), key=lambda span: (-span.score, span.start - span.end, span.start)):
        if not any(taken[span.start : span.end]):
            taken[span.start : span.end] = b"\1" * (span.end - span.start)
            kept.append(span)
    return sorted(kept, key=lambda span: span.start)


def _spans(text: str) -> Iterator[Span]:
    labelled = {}
    for finder in _FINDERS:
        for span in finder.spans(text):
            yield span
            if "v" in finder.pattern.groupindex:
                labelled[span.text] = span
    # What was found by the words before it is the same thing where those words are missing.
    for value, span in labelled.items():
        for match in re.finditer(rf"(?<!\w){re.escape(value)}(?!\w)", text):
            yield Span(*match.span(), span.kind, value, span.score)


def _is_ip(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _is_phone(text: str) -> bool:
    return 7 <= len(digits_of(text)) <= 15


def _labelled(labels: str, value: str) -> str:
    """A value behind one of some words, with a few signs and up to three small words between."""
    between = r"[\s\W]{0,4}?(?i:(?:is|it'?s|was|no|nr|number|me|us|him|her|on|at|to|my)\b[\s\W]{0,3}?){0,3}"
    return rf"(?i:\b(?:{labels}))\b{between}(?P<v>{value})"


_DATE = (
    r"\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}"
    r"|\d{1,2}(?:st|nd|rd|th)?\.? (?:of )?(?i:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*\.?,? \d{4}"
    r"|(?i:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*\.? \d{1,2}(?:st|nd|rd|th)?,? \d{4}"
)
_CAPITAL = "[" + "".join(character for character in map(chr, range(0x590)) if character.isupper()) + "]"
_NAME = rf"{_CAPITAL}(?:[^\W\d_]+|(?=['’]{_CAPITAL}))(?:[-'’]{_CAPITAL}[^\W\d_]+)*"
_FULL_NAME = rf"{_NAME}(?: {_CAPITAL}\.?(?= {_CAPITAL}))?(?: {_NAME}){{0,2}}"
_END = r"(?![A-Za-z0-9_-])"
_SEPARATED = (
    r"\+\d{1,3}[ .-]?(?:\(0?\d{0,4}\)[ .-]?)?\d{1,4}(?:[ .-]?\d{2,4}){1,5}"  # +46 (0)8 928 571 38
    r"|(?:00\d{1,2}[ .-])?\(\d{1,5}\)[ .-]?\d{2,4}(?:[ .-]\d{2,4}){1,3}"  # (37) 788-063
    r"|(?:00?1[ .-])?\d{3}[ .-]\d{3}[ .-]\d{4}"  # 905-674-3793
    r"|00?[1-9]\d{0,3}(?:[ .-]\d{2,4}){2,4}"  # 0490 75 40 81
)
_CARD = r"\d(?:[ -]?\d){11,18}(?![\w-])"
_ANY_PHONE = r"\+?\(?\d(?:[ .()/-]{0,2}\d){6,14}"

_FINDERS = [
    _Finder("EMAIL", 0.99, re.compile(r"(?<![\w.+-])[\w][\w.+%'-]*@(?:[\w](?:[\w-]*[\w])?\.)+[^\W\d_]{2,24}(?![\w@])")),
    _Finder("CARD", 0.95, re.compile(rf"(?<![\w.+-])(?=({_CARD}))"), lambda v: is_card(digits_of(v)), cut=True),
    _Finder(
        "CARD",
        0.9,
        re.compile(_labelled(r"card(?: (?:number|no|nr))?", _CARD)),
        lambda v: len(number := digits_of(v)) >= 12 and is_luhn(number),
        cut=True,
    ),
    _Finder(
        "IBAN",
        0.99,
        re.compile(r"(?<!\w)[A-Za-z]{2}\d{2}(?: ?[A-Za-z0-9]{4}){2,7}(?: ?[A-Za-z0-9]{1,4})?(?!\w)"),
        lambda v: is_iban(v.replace(" ", "")),
        cut=True,
    ),
    _Finder("SSN", 0.9, re.compile(r"(?<![\w.-])\d{3}-\d{2}-\d{4}(?![\w-])"), lambda v: is_ssn(digits_of(v))),
    _Finder(
        "SSN",
        0.9,
        re.compile(_labelled(r"ssn|social security(?: number| no)?", r"\d{3}[ -]?\d{2}[ -]?\d{4}(?!\d)")),
        lambda v: is_ssn(digits_of(v)),
    ),
    _Finder(
        "IP",
        0.9,
        re.compile(
            r"(?i:(?<!version )(?<!version: )(?<!release )(?<!build )(?<!firmware ))"
            r"(?<![\w.])\d{1,3}(?:\.\d{1,3}){3}(?![\w-]|\.\w)"
        ),
        _is_ip,
    ),
    _Finder("IP", 0.95, re.compile(r"(?<![\w:.])(?:[0-9A-Fa-f]{0,4}:){3,7}[0-9A-Fa-f]{1,4}(?![\w:])"), _is_ip),
    _Finder("PHONE", 0.7, re.compile(rf"(?<![\w.+/-])(?<!\d )(?:{_SEPARATED})(?![\w]|[./-]\d| \d)"), _is_phone),
    _Finder(
        "PHONE",
        0.8,
        re.compile(
            _labelled(
                r"phone|mobile|cell|tel|telephone|fax|whatsapp|call|text|sms|messages?|reach", _ANY_PHONE + r"(?![\w])"
            )
        ),
        _is_phone,
    ),
    _Finder(
        "PHONE",
        0.8,
        re.compile(rf"(?<![\w.+/-])(?P<v>{_ANY_PHONE})(?i:[ ,(-]{{1,2}}(?:phone|mobile|cell|fax|office|home|work)\b)"),
        _is_phone,
    ),
    _Finder(
        "BIRTH_DATE",
        0.9,
        re.compile(_labelled(r"date of birth|birth ?date|birthday|d\.?o\.?b\.?|born|geburtsdatum|geboren", _DATE)),
    ),
    _Finder("PERSON", 0.8, re.compile(rf"\b(?:Mr|Mrs|Ms|Miss|Mx|Dr|Prof|Herr|Frau)\b\.? (?P<v>{_FULL_NAME})")),
    _Finder("PERSON", 0.7, re.compile(rf"(?i:\b(?:my name is|name ?:))\s{{0,3}}(?P<v>{_FULL_NAME})")),
    _Finder("URL_LOGIN", 1.0, re.compile(r"(?<=://)(?P<v>[^\s/@:]+:[^\s/@]+)@")),
    _Finder("AWS_KEY", 0.99, re.compile(rf"\b(?:AKIA|ASIA|AROA|AIDA)[A-Z0-9]{{16}}{_END}")),
    _Finder("AWS_SECRET", 0.95, re.compile(r"(?i:aws.{0,20}secret.{0,20}?[\s:=\"']+)(?P<v>[\w/+]{40})(?![\w/+=])")),
    _Finder("OPENAI_KEY", 0.95, re.compile(rf"\bsk-(?!ant-)(?:[a-z]+-)?[A-Za-z0-9_-]{{20,}}{_END}")),
    _Finder("ANTHROPIC_KEY", 0.99, re.compile(rf"\bsk-ant-[A-Za-z0-9_-]{{20,}}{_END}")),
    _Finder("GITHUB_TOKEN", 0.99, re.compile(rf"\b(?:gh[pousr]_[A-Za-z0-9]{{36,}}|github_pat_\w{{36,}}){_END}")),
    _Finder("SLACK_TOKEN", 0.99, re.compile(rf"\bxox[abeoprs]-[A-Za-z0-9-]{{10,}}{_END}")),
    _Finder("SLACK_WEBHOOK", 0.99, re.compile(r"(?<=hooks\.slack\.com/services/)T\w+/B\w+/\w+")),
    _Finder("GOOGLE_KEY", 0.99, re.compile(rf"\bAIza[A-Za-z0-9_-]{{35}}{_END}")),
    _Finder("STRIPE_KEY", 0.99, re.compile(rf"\b[rs]k_(?:live|test)_[A-Za-z0-9]{{16,}}{_END}")),
    _Finder("AZURE_KEY", 0.99, re.compile(r"(?i:(?:account|sharedaccess)key=)(?P<v>[A-Za-z0-9+/]{40,}={0,2})")),
    _Finder("JWT", 0.99, re.compile(rf"\beyJ[A-Za-z0-9_-]{{8,}}\.eyJ[A-Za-z0-9_-]{{8,}}\.[A-Za-z0-9_-]*{_END}")),
    _Finder(
        "PRIVATE_KEY",
        1.0,
        # A key that was cut off ends with the text.
        re.compile(
            r"-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY(?: BLOCK)?-----"
            r"(?s:.*?)(?:-----END (?:[A-Z0-9]+ )*PRIVATE KEY(?: BLOCK)?-----|\Z)"
        ),
    ),
    _Finder(
        "SECRET",
        0.8,
        re.compile(
            r"(?i:\b(?:password|passwd|pwd|passphrase|pin|api[_-]?key|secret)\b(?: is)?\s?[:=]\s?[\"']?)"
            r"(?P<v>[^\s\"',;]{4,})"
        ),
        lambda v: any(c.isdigit() for c in v),
    ),
]
