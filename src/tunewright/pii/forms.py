"""The forms of stand-ins, by kind: a card passes Luhn's check, a name is a name, an address keeps its shape."""

from __future__ import annotations

import bisect
import hmac
import itertools
import re
import string
from collections.abc import Callable, Collection, Iterator

from tunewright.pii.addresses import KEPT_ENDINGS, KEPT_WORDS
from tunewright.pii.checks import compact, digits_of, iban_check, is_ssn, luhn_digit
from tunewright.pii.gazetteer import gazetteer
from tunewright.pii.persons import NOT_PERSONS

_CONSONANTS, _VOWELS = "bdfgklmnprstvz", "aeiou"


class StandInSource:
    """The key, and the names in an order that it decides."""

    def __init__(self, key: bytes):
        self._key = key
        self._rings: dict[str, list[tuple[bytes, str]]] = {}

    def digest(self, name: str) -> bytes:
        return hmac.digest(self._key, name.encode("utf-8", "surrogatepass"), "sha256")

    def names(self, pool: str, word: str) -> Iterator[str]:
        """The names of a pool, "given" or "family", from a point that the key and a word decide.

        The names lie on a ring in an order that only the key decides (consistent hashing, Karger et al. 1997). So a
        name that the lists gain or lose changes few stand-ins.
        """
        ring = self._rings.get(pool)
        if ring is None:
            ring = self._rings[pool] = sorted((self.digest(f"name\0{name}"), name) for name in _usable(pool))
        start = bisect.bisect(ring, (self.digest(f"{pool}\0{word}"), ""))
        return (ring[place % len(ring)][1] for place in range(start, start + len(ring)))


def _usable(pool: str) -> Iterator[str]:
    known = gazetteer()
    names = (known.given if pool == "given" else known.family) & known.alone - known.words - NOT_PERSONS
    return (name for name in names if name.isascii() and name.isalpha() and len(name) > 2)


class Draw:
    """Numbers drawn from HMAC-SHA256 in counter mode.

    Args:
        source: the key.
        name: the purpose of the numbers; each purpose gets other ones.
        avoid: words of the text, in lower case, that no drawn name may be.
    """

    def __init__(self, source: StandInSource, name: str, avoid: Collection[str] = ()):
        self._source = source
        self._avoid = avoid
        self._bytes = self._stream(source.digest(name))

    @staticmethod
    def _stream(seed: bytes) -> Iterator[int]:
        for block in itertools.count():
            yield from hmac.digest(seed, block.to_bytes(8, "big"), "sha256")

    def below(self, limit: int) -> int:
        """A number from 0 to `limit` - 1."""
        return int.from_bytes(itertools.islice(self._bytes, 8), "big") % limit

    def part(self, name: str) -> Draw:
        """Numbers for a part that has its own stand-in, such as a domain that many addresses share."""
        return Draw(self._source, f"part\0{name}", self._avoid)

    def name(self, pool: str, word: str) -> str:
        """Another name from a pool, in place of a word."""
        taken = {word.casefold(), *self._avoid}
        return next(name for name in self._source.names(pool, word.casefold()) if name.casefold() not in taken)

    def like(self, character: str) -> str:
        """Another character of the same class: digits stay digits, letters stay letters of their case."""
        if character.isdigit():
            return str(self.below(10))
        if character.isalpha():
            letter = string.ascii_lowercase[self.below(26)]
            return letter.upper() if character.isupper() else letter
        return character

    def word(self, word: str) -> str:
        """A pronounceable word of the same length, with the same capitals."""
        vowel = self.below(2)
        letters = []
        for position, character in enumerate(word):
            choice = _VOWELS if (position + vowel) % 2 else _CONSONANTS
            letter = choice[self.below(len(choice))]
            letters.append(letter.upper() if character.isupper() else letter)
        return "".join(letters)


def _filled(value: str, content: str) -> str:
    """`content` in the places of the letters and digits of `value`, with the spacing and case of `value`."""
    characters = iter(content)
    filled = (next(characters) if old.isalnum() else old for old in value)
    return "".join(new.lower() if old.islower() else new for old, new in zip(value, filled, strict=True))


def _digits(value: str, draw: Draw, kept: int) -> str:
    number = digits_of(value)
    return number[:kept] + "".join(draw.like(digit) for digit in number[kept:])


def _card(value: str, draw: Draw) -> str:
    body = _digits(value, draw, kept=4)[:-1]
    return _filled(value, body + luhn_digit(body))


def _iban(value: str, draw: Draw) -> str:
    plain = compact(value).upper()
    account = "".join(map(draw.like, plain[4:]))
    return _filled(value, plain[:2] + iban_check(plain[:2], account) + account)


def _ssn(value: str, draw: Draw) -> str:
    while not is_ssn(number := _digits(value, draw, kept=0)):
        pass
    return _filled(value, number)


def _phone(value: str, draw: Draw) -> str:
    number = digits_of(value)
    return _filled(value, _digits(value, draw, kept=len(number) - len(number.lstrip("0")) + 1))


def _ip(value: str, draw: Draw) -> str:
    """An address in the private range 10.0.0.0/8, or in 2001:db8::/32, which is reserved for documents (RFC 3849)."""
    if ":" in value:
        return "2001:db8:" + ":".join(f"{draw.below(1 << 16):x}" for _ in range(6))
    return "10." + ".".join(str(draw.below(256)) for _ in range(3))


def _email(value: str, draw: Draw) -> str:
    """An address under .example, which nobody can own (RFC 2606). Addresses that share a domain still share one."""
    local, domain = value.rsplit("@", 1)
    return "".join(map(draw.like, local)) + "@" + draw.part(domain.lower()).word("x" * 8) + ".example"


def _date(value: str, draw: Draw) -> str:
    """A date in the same notation. A number that can be a month stays one, a day stays from 13 to 28, a year moves by
    1 to 5."""

    def number(match: re.Match[str]) -> str:
        old, width = int(match[0]), len(match[0])
        if width == 4:
            return str(old + (1 + draw.below(5)) * (-1) ** draw.below(2))
        low, high = (32, 99) if old > 31 else (13, 28) if old > 12 else (1, 12 if width == 2 else 9)
        return f"{low + draw.below(high - low + 1):0{width}d}"

    return re.sub(r"\d+", number, value)


NAME_WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]{2,})?")
"""A word of a name, which has its own stand-in."""


def _person(value: str, draw: Draw) -> str:
    """Each word of a name has its own stand-in, so that a first name alone agrees with the whole name."""

    def other(match: re.Match[str]) -> str:
        word = match[0]
        if word.islower():  # van, de
            return word
        if len(word) == 1:
            return draw.part(f"initial {word}").like(word)
        name = draw.name("given" if word.title() in gazetteer().given else "family", word)
        return name.upper() if word.isupper() else name

    return NAME_WORD.sub(other, value)


def _address(value: str, draw: Draw) -> str:
    """Numbers and names change; kinds of street, units, states and points of the compass stay."""

    def other(match: re.Match[str]) -> str:
        word = match[0]
        if word.isdecimal():
            return _nonzero("".join(map(draw.like, word)), word)
        if not word.isalpha() or len(word) < 3 or word.casefold() in KEPT_WORDS:
            return word
        end = next((len(end) for end in KEPT_ENDINGS if word.casefold().endswith(end)), 0)
        stem = word[: len(word) - end]
        return draw.part(f"address {stem.casefold()}").word(stem) + word[len(stem) :]

    return re.sub(r"\w+", other, value)


def _nonzero(drawn: str, old: str) -> str:
    """Digits that begin with 0 only where the old ones do."""
    return drawn if old[0] == "0" or drawn[0] != "0" else "1" + drawn[1:]


def _password(value: str, draw: Draw) -> str:
    """Punctuation is part of a password, so it is drawn too. The colon after a user's name stays."""
    return "".join(
        draw.like(character) if character.isalnum() or character == ":" else "!-._~"[draw.below(5)]
        for character in value
    )


_PREFIX = re.compile(
    r"\A(?:AKIA|ASIA|AROA|AIDA|AIza|sk-(?:ant-|[a-z]+-)?|gh[pousr]_|github_pat_|xox[abeoprs]-|[rs]k_(?:live|test)_|eyJ)"
    r"|(?<=\.)eyJ|%[0-9A-Fa-f]{2}|-----[A-Z0-9 ]+-----|\AT(?=\w+/B)|(?<=/)B(?=\w+/)"
)


def token(value: str, draw: Draw) -> str:
    """A secret that keeps the vendor's prefix; the rest is drawn."""
    kept = {position for match in _PREFIX.finditer(value) for position in range(*match.span())}
    return "".join(c if position in kept else draw.like(c) for position, c in enumerate(value))


FORMS: dict[str, Callable[[str, Draw], str]] = {
    "ADDRESS": _address,
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
CANONICAL: dict[str, Callable[[str], str]] = {
    "ADDRESS": lambda value: " ".join(re.findall(r"\w+", value.casefold())),
    "CARD": digits_of,
    "EMAIL": str.lower,
    "IBAN": lambda value: compact(value).upper(),
    "IP": str.lower,
    "NATIONAL_ID": lambda value: compact(value).upper(),
    "PERSON": str.casefold,
    "PHONE": digits_of,
    "SSN": digits_of,
}
