"""Check digits and issued ranges, which distinguish a card, an IBAN or a social security number from other digits."""

from __future__ import annotations

import re

_ISSUERS = re.compile(
    r"4(\d{12}|\d{15}|\d{18})"  # Visa
    r"|5[1-5]\d{14}|(222[1-9]|22[3-9]\d|2[3-6]\d\d|27[01]\d|2720)\d{12}"  # Mastercard
    r"|3[47]\d{13}"  # American Express
    r"|3(0[0-5]\d|095|6\d\d|[89]\d\d)\d{10,15}"  # Diners Club
    r"|35(2[89]|[3-8]\d)\d{12,15}|(2131|1800)\d{11}"  # JCB
    r"|(6011|64[4-9]\d|65\d\d|62\d\d|81\d\d)\d{12,15}"  # Discover, UnionPay
    r"|(50|5[6-9]|6\d)\d{10,17}"  # Maestro
)
_IBAN_LENGTHS = {
    country: int(length)
    for country, length in re.findall(
        r"([A-Z]{2})(\d\d)",
        "AD24 AE23 AL28 AT20 AZ28 BA20 BE16 BG22 BH22 BR29 BY28 CH21 CR22 CY28 CZ24 DE22 DK18 DO28 EE20 EG29 "
        "ES24 FI18 FO18 FR27 GB22 GE22 GI23 GL18 GR27 GT28 HR21 HU28 IE22 IL23 IQ23 IS26 IT27 JO30 KW30 KZ20 "
        "LB28 LC32 LI21 LT20 LU20 LV21 MC27 MD24 ME22 MK19 MR27 MT31 MU30 NL18 NO15 PK24 PL28 PS29 PT25 QA29 "
        "RO24 RS22 SA24 SC31 SE24 SI19 SK24 SM27 TN24 TR26 UA29 VA22 VG24 XK20",
    )
}


def digits_of(text: str) -> str:
    """The decimal digits of a text, in any script, as ASCII."""
    return "".join(str(int(character)) for character in text if character.isdecimal())


def luhn_digit(body: str) -> str:
    """The check digit with which `body` passes Luhn's check (ISO/IEC 7812-1, annex B)."""
    doubled = sum(sum(divmod(2 * int(digit), 10)) for digit in body[::-2])
    return str(-(doubled + sum(map(int, body[-2::-2]))) % 10)


def is_luhn(number: str) -> bool:
    """Whether the last digit is Luhn's check digit of the others."""
    return luhn_digit(number[:-1]) == number[-1]


def is_card(number: str) -> bool:
    """Whether digits can be a payment card's: they have an issuer's prefix and length, and pass Luhn's check."""
    return bool(_ISSUERS.fullmatch(number)) and is_luhn(number)


def iban_check(country: str, account: str) -> str:
    """The two check digits of an IBAN (ISO 13616, ISO/IEC 7064 MOD 97-10)."""
    return f"{98 - _mod97(account + country + '00'):02d}"


def compact(text: str) -> str:
    """A number or code without the signs between its groups."""
    return "".join(filter(str.isalnum, text))


def is_iban(text: str) -> bool:
    """Whether a text without spaces is an IBAN: it has its country's length and right check digits."""
    text = text.upper()
    if not re.fullmatch(r"[A-Z]{2}[0-9]{2}[0-9A-Z]{11,30}", text) or _IBAN_LENGTHS.get(text[:2]) != len(text):
        return False
    return _mod97(text[4:] + text[:4]) == 1


def _mod97(text: str) -> int:
    return int("".join(str(int(character, 36)) for character in text)) % 97


def is_codice_fiscale(text: str) -> bool:
    """Whether an Italian tax code's last letter fits the others (Decreto ministeriale 23/12/1976, article 6)."""
    odd = (1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 2, 4, 18, 20, 11, 3, 6, 8, 12, 14, 16, 10, 22, 25, 24, 23)
    places = [ord(each) - ord("0" if each.isdigit() else "A") for each in text[:15]]
    total = sum(odd[place] for place in places[::2]) + sum(places[1::2])
    return ord(text[15]) - ord("A") == total % 26


def is_nir(text: str) -> bool:
    """Whether the last two digits of a French social security number fit the others: 97 less the rest of them by 97,
    with 19 and 18 for the departments 2A and 2B (xml.insee.fr/schema/nir.html, 2026-12-01)."""
    body = text[:13].replace("2A", "19").replace("2B", "18")
    return body.isdecimal() and 97 - int(body) % 97 == int(text[13:])


def is_steuer_id(number: str) -> bool:
    """Whether 11 digits are a German tax id: one of the first ten occurs two or three times, the others once, and the
    last one fits them (ISO/IEC 7064 MOD 11,10)."""
    repeated = [count for digit in set(number[:10]) if (count := number[:10].count(digit)) > 1]
    product = 10
    for digit in number[:10]:
        product = 2 * ((int(digit) + product) % 10 or 10) % 11
    return number[0] != "0" and repeated in ([2], [3]) and (11 - product) % 10 == int(number[10])


def is_dni(text: str) -> bool:
    """Whether the letter of a Spanish DNI or NIE fits its digits (real decreto 1553/2005; X, Y and Z count 0, 1, 2)."""
    number = text[:-1].upper().translate(str.maketrans("XYZ", "012"))
    return len(number) == 8 and "TRWAGMYFPDXBNJZSQVHLCKE"[int(number) % 23] == text[-1].upper()


def is_bsn(number: str) -> bool:
    """Whether nine digits pass the Dutch test of eleven: the last one counts -1, those before it 2, 3 …"""
    total = sum(weight * int(digit) for weight, digit in zip((9, 8, 7, 6, 5, 4, 3, 2, -1), number, strict=True))
    return total > 0 and total % 11 == 0


def is_pesel(number: str) -> bool:
    """Whether the last of 11 digits fits the others in a Polish PESEL (weights 1, 3, 7, 9)."""
    total = sum(weight * int(digit) for weight, digit in zip((1, 3, 7, 9) * 2 + (1, 3, 1), number, strict=True))
    return total % 10 == 0


def is_ssn(number: str) -> bool:
    """Whether nine digits can be a US social security number: no part is zero, the area is not 666 or 900 to 999."""
    area, group, serial = number[:3], number[3:5], number[5:]
    return area not in ("000", "666") and area[0] != "9" and group != "00" and serial != "0000"
