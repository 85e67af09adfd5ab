"""Stand-ins for personal data: the same for the same value everywhere, of the same form, and repeatable with a key."""

from __future__ import annotations

import hmac
import itertools
import re
import string
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType

from tunewright.data.pii.checks import digits_of, iban_check, is_ssn, luhn_digit
from tunewright.data.pii.finders import find_pii

_CONSONANTS, _VOWELS = "bdfgklmnprstvz", "aeiou"


class Pseudonymiser:
    """Replaces what `find_pii` finds.

    A stand-in is drawn from HMAC-SHA256 of the value's kind and canonical form under the key, so whoever has the key
    can repeat the work, and nobody without it can test a guess. Stand-ins are not secret; `mapping` is: keep it apart
    from the texts. Two values may, very rarely, get the same stand-in. A value that only the words before it give away
    stays in texts that lack those words.

    Args:
        key: at least 16 bytes of your own, from a secret store.

    Raises:
        ValueError: the key is shorter.
    """

    def __init__(self, key: bytes):
        if len(key) < 16:
            raise ValueError("a pseudonymisation key needs at least 16 bytes")
        self._key = key
        self._mapping: dict[str, str] = {}

    def __repr__(self) -> str:
        return f"Pseudonymiser({len(self._mapping)} values)"

    @property
    def mapping(self) -> Mapping[str, str]:
        """What was replaced so far: each value as it stood, and its stand-in."""
        return MappingProxyType(self._mapping)

    def replace(self, text: str) -> str:
        """The text with a stand-in for every span of `find_pii`."""
        parts, end = [], 0
        for span in find_pii(text):
            stand_in = self._mapping.get(span.text) or self._stand_in(span.kind, span.text)
            self._mapping[span.text] = stand_in
            parts += [text[end : span.start], stand_in]
            end = span.end
        return "".join([*parts, text[end:]])

    def _stand_in(self, kind: str, value: str) -> str:
        form = _FORMS.get(kind, _token)
        canonical = _CANONICAL.get(kind, str)(value)
        for attempt in range(100):
            stand_in = form(value, _Draw(self._key, f"{kind}\0{attempt}\0{canonical}"))
            if stand_in != value:
                return stand_in
        return value  # A private key of which only the first line is there: nothing to hide.


class _Draw:
    """Numbers drawn from HMAC-SHA256 in counter mode."""

    def __init__(self, key: bytes, name: str):
        self._key = key
        self._bytes = self._stream(hmac.digest(key, name.encode("utf-8", "surrogatepass"), "sha256"))

    @staticmethod
    def _stream(seed: bytes) -> Iterator[int]:
        for block in itertools.count():
            yield from hmac.digest(seed, block.to_bytes(8, "big"), "sha256")

    def below(self, limit: int) -> int:
        """A number from 0 to `limit` - 1."""
        return int.from_bytes(itertools.islice(self._bytes, 8), "big") % limit

    def part(self, name: str) -> _Draw:
        """Numbers for a part that has its own stand-in, such as a domain that many addresses share."""
        return _Draw(self._key, f"part\0{name}")

    def like(self, character: str) -> str:
        """Another character of the same class: digits stay digits, letters stay letters of their case."""
        if character.isdigit():
            return str(self.below(10))
        if character.isalpha():
            letter = string.ascii_lowercase[self.below(26)]
            return letter.upper() if character.isupper() else letter
        return character

    def word(self, word: str) -> str:
        """A word that can be said, of the same length, with the same capitals."""
        vowel = self.below(2)
        letters = []
        for position, character in enumerate(word):
            choice = _VOWELS if (position + vowel) % 2 else _CONSONANTS
            letter = choice[self.below(len(choice))]
            letters.append(letter.upper() if character.isupper() else letter)
        return "".join(letters)


def _filled(value: str, content: str) -> str:
    """`content` in the places of the letters and digits of `value`, with its spacing and its case."""
    characters = iter(content)
    filled = (next(characters) if old.isalnum() else old for old in value)
    return "".join(new.lower() if old.islower() else new for old, new in zip(value, filled, strict=True))


def _digits(value: str, draw: _Draw, kept: int) -> str:
    number = digits_of(value)
    return number[:kept] + "".join(draw.like(digit) for digit in number[kept:])


def _card(value: str, draw: _Draw) -> str:
    body = _digits(value, draw, kept=4)[:-1]
    return _filled(value, body + luhn_digit(body))


def _iban(value: str, draw: _Draw) -> str:
    compact = value.replace(" ", "").upper()
    account = "".join(map(draw.like, compact[4:]))
    return _filled(value, compact[:2] + iban_check(compact[:2], account) + account)


def _ssn(value: str, draw: _Draw) -> str:
    while not is_ssn(number := _digits(value, draw, kept=0)):
        pass
    return _filled(value, number)


def _phone(value: str, draw: _Draw) -> str:
    number = digits_of(value)
    return _filled(value, _digits(value, draw, kept=len(number) - len(number.lstrip("0")) + 1))


def _ip(value: str, draw: _Draw) -> str:
    """An address of the private range 10.0.0.0/8, or of 2001:db8::/32, which is kept for documents (RFC 3849)."""
    if ":" in value:
        return "2001:db8:" + ":".join(f"{draw.below(1 << 16):x}" for _ in range(6))
    return "10." + ".".join(str(draw.below(256)) for _ in range(3))


def _email(value: str, draw: _Draw) -> str:
    """An address under .example, which nobody can own (RFC 2606); addresses of one domain stay together."""
    local, domain = value.rsplit("@", 1)
    return "".join(map(draw.like, local)) + "@" + draw.part(domain.lower()).word("x" * 8) + ".example"


def _date(value: str, draw: _Draw) -> str:
    """A date in the same notation: what can be a month stays one, a day stays from 13 to 28, a year moves by 1 to 5."""

    def number(match: re.Match[str]) -> str:
        old, width = int(match[0]), len(match[0])
        if width == 4:
            return str(old + (1 + draw.below(5)) * (-1) ** draw.below(2))
        low, high = (32, 99) if old > 31 else (13, 28) if old > 12 else (1, 12 if width == 2 else 9)
        return f"{low + draw.below(high - low + 1):0{width}d}"

    return re.sub(r"\d+", number, value)


def _person(value: str, draw: _Draw) -> str:
    """Each word of a name has its own stand-in, so that a first name alone agrees with the whole name."""

    def other(match: re.Match[str]) -> str:
        names = (draw.part(f"{n} {match[0].casefold()}").word(match[0]) for n in itertools.count())
        return next(name for name in names if name != match[0])

    return re.sub(r"[^\W\d_]+", other, value)


def _password(value: str, draw: _Draw) -> str:
    """Signs are part of a password, so they are drawn too; the colon behind a user's name stays."""
    return "".join(
        draw.like(character) if character.isalnum() or character == ":" else "!-._~"[draw.below(5)]
        for character in value
    )


_PREFIX = re.compile(
    r"\A(?:AKIA|ASIA|AROA|AIDA|AIza|sk-(?:ant-|[a-z]+-)?|gh[pousr]_|github_pat_|xox[abeoprs]-|[rs]k_(?:live|test)_|eyJ)"
    r"|(?<=\.)eyJ|-----[A-Z0-9 ]+-----|\AT(?=\w+/B)|(?<=/)B(?=\w+/)"
)


def _token(value: str, draw: _Draw) -> str:
    """A secret keeps what says whose it is; the rest is drawn."""
    kept = {position for match in _PREFIX.finditer(value) for position in range(*match.span())}
    return "".join(c if position in kept else draw.like(c) for position, c in enumerate(value))


_FORMS: dict[str, Callable[[str, _Draw], str]] = {
    "BIRTH_DATE": _date,
    "CARD": _card,
    "EMAIL": _email,
    "IBAN": _iban,
    "IP": _ip,
    "PERSON": _person,
    "PHONE": _phone,
    "SECRET": _password,
    "SSN": _ssn,
    "URL_LOGIN": _password,
}
_CANONICAL: dict[str, Callable[[str], str]] = {
    "CARD": digits_of,
    "EMAIL": str.lower,
    "IBAN": lambda value: value.replace(" ", "").upper(),
    "IP": str.lower,
    "PERSON": str.casefold,
    "PHONE": digits_of,
    "SSN": digits_of,
}
