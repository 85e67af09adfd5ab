"""The newest message in an e-mail's text: quoted messages, forwarded headers, signatures and disclaimers are left out.

The library quotequail finds the quotes. This module applies stricter rules to its findings, because a quote that stays
costs some tokens, and a sentence that goes costs the ticket.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence

MOST_LINES = 1000
"""Lines that are searched for a quote. New text stands at the top, and the search is quadratic at worst."""
LONGEST_LINE = 300
"""Characters of a line that may introduce a quote. Patterns with two gaps are quadratic in them."""
MOST_ADDRESSES = 3
"""Characters "@", and characters "<", in a line that may introduce a quote. A pattern of quotequail is cubic in
them."""
_SIGNATURE_LINES = 25
"""Lines that a signature with its disclaimer may have."""

_FORWARDED = re.compile(r"\s*(fwd?|wg|tr|rv|i|doorst|vb|vs|enc|pd)\s*:", re.IGNORECASE)
"""Subjects of forwarded messages, in the words of mail programs in ten languages."""
_TIME_OR_ADDRESS = re.compile(r"\d{1,2}[:.h]\d\d|\b20\d\d\b|@")
"""A time, a year or an address. A line that introduces a quote has one; a mere sentence that ends in "wrote:" has
none."""
_MORE_INTRODUCTIONS = re.compile(
    r".*\b(ha scritto|napisał\(a\)|napsal\(a\)|schrieb am .*|kirjoitti|skrev|escreveu|a écrit|wrote) ?:$"
)
"""Languages and word orders that quotequail doesn't know."""
_QUOTED = re.compile(r"^>.*\n?", re.MULTILINE)
_RECIPIENTS = re.compile(r"(?:> ?)*+(?:\*?[-\w ]{1,30}+:)?")
"""The beginning of a line with many addresses: quote marks, and a header's name."""

_CLOSING = re.compile(
    r"""(?:(?:with\ )?(?:best|kind|kindest|warm|many)\ (?:regards|wishes)|regards|sincerely(?:\ yours)?|yours\ \w+
    |cheers
    |(?:many\ )?thanks(?:\ again|\ in\ advance)?|thank\ you|best
    |mit\ (?:freundlichen|besten|herzlichen)\ grü(?:ß|ss)en|mfg|(?:viele|beste|liebe|herzliche)\ grü(?:ß|ss)e
    |vielen\ dank
    |(?:bien\ )?cordialement|(?:sincères\ )?salutations|bien\ à\ vous|merci(?:\ d'avance)?
    |(?:un\ )?(?:cordial\ )?saludos?|atentamente|cordiali\ saluti|distinti\ saluti|met\ vriendelijke\ groet(?:en)?
    |z\ poważaniem|pozdrawiam|med\ vänliga?\ hälsning(?:ar)?|med\ venlig\ hilsen|atenciosamente)[\ ,.!]*""",
    re.IGNORECASE | re.VERBOSE,
)
_SENT_FROM = re.compile(
    r"(?:sent from|get outlook for|gesendet (?:von|mit)|von meinem .{1,30} gesendet|envoyé (?:de|depuis)|enviado desde"
    r"|inviato da|verzonden vanaf|wysłano z)\b.{0,60}",
    re.IGNORECASE,
)
_DISCLAIMER = re.compile(
    r"(?:(?:confidentiality|legal|privacy)\ ?(?:notice|note)?|disclaimer|vertraulichkeitshinweis)\s*+(?::\s*+)?$"
    r"|(?:this|the information (?:contained )?in this) (?:e-?mail|message|communication)\b.{0,120}"
    r"(?:confidential|privileged|intended)"
    r"|(?:confidentiality notice|disclaimer)\s*:"
    r"|diese (?:e-?mail|nachricht)\b.{0,120}vertraulich"
    r"|ce (?:message|courriel|mail)\b.{0,120}confidentiel"
    r"|este (?:mensaje|correo)\b.{0,120}confidencial",
    re.IGNORECASE,
)
"""The beginning of a disclaimer. An author may begin a sentence like this too."""
_LEGAL = re.compile(
    r"\b(?:intended (?:solely|only|exclusively)|(?:intended|named) recipients?|addressees?|any attachments?"
    r"|notify the sender|(?:received|sent) (?:this|it) (?:e-?mail |message )?in error|delete (?:it|this)"
    r"|unauthori[sz]ed (?:use|review|disclosure|copying)|disclos(?:e|ure)|disseminat(?:e|ion)|viruses"
    r"|before printing|registered (?:in|office)"
    r"|(?:bestimmte|richtige|beabsichtigte)[nr]? (?:adressat|empfänger)|irrtümlich|löschen sie|vernichten sie"
    r"|pièces jointes|destinataires?|par erreur|archivos adjuntos|sus adjuntos|destinatarios?|por error)\b",
    re.IGNORECASE,
)
"""What a disclaimer says, and hardly any author."""
_CONTACT = re.compile(
    r"(?:tel(?:e(?:ph|f)one?|éfono)?|tél(?:éphone)?|phone|ph|mob(?:ile?)?|portable|móvil|handy|cell|fax|office|direct"
    r"|hotline|zentrale|durchwahl|e-?mail|mail|web(?:site)?|internet|https?|www|skype|linkedin|twitter|facebook|instagram|whatsapp|xing|[a-z]"
    r"|vat|ust|hrb|sitz|geschäftsführ\w{0,6}|registergericht|amtsgericht)\b",
    re.IGNORECASE,
)
"""The beginning of a signature's line with a label, such as a telephone number's."""
_HOURS = re.compile(
    r"(?:(?:opening|office|business|working) (?:hours|times)|(?:öffnungs|sprech|büro|geschäfts)zeiten"
    r"|horaires?|horarios?|orari|openingstijden)\b.{0,25}\d",
    re.IGNORECASE,
)
"""The beginning of a line with opening hours. Some have as many words in lower case as a sentence."""
_EMPLOYER = re.compile(
    r"registered (?:in|office)\b"
    r"|(?:(?:(?:postal|street|visiting|business|office|registered|our) )?address|adresse|anschrift|dirección|indirizzo"
    r"|adres|department|dept|division|abteilung|département|departamento|company|firma|société|empresa|società"
    r"|(?:(?:managing|executive) )?directors?|board(?: of directors)?|chair(?:man|woman|person)?|ceo|vorstand"
    r"|aufsichtsrat|inhaber(?:in)?|tax|steuer(?:nummer|-?nr)|handelsregister|commercial register|siren|siret|kvk|btw)\b"
    r"(?:[ .]{1,2}(?:registration|registered|reg|id|number|no|nr|name)\b)*+[ .]*+[:#\d]",
    re.IGNORECASE,
)
"""The beginning of a line about an author's company. Right below a closing it may be an author's field."""
_FIELD = re.compile(
    r"[^\W\d_][\w .'’/()-]{0,60}:\s*\S"
    r"|.{0,60}?(?:\b(?:order|account|invoice|ticket|case|customer|ref(?:erence)?|booking|contract|policy|serial|tracking"
    r"|bestellung|auftrag|rechnung|konto|vertrag|commande|facture|pedido|factura|number|n[or]|n°|numéro|número|numero"
    r"|id|code)|nummer)[ .:#°-]{0,4}\w{0,10}\d",
    re.IGNORECASE,
)
"""A field of a form, such as "Reason: moving" or "Account number 12345"."""
_WORD = re.compile(r"(?<!\S)[^\w\s]{0,3}+([^\W\d_]+(?:['’-][^\W\d_]+)*+)[^\w\s]{0,3}+(?!\S)")
"""A word without digits, which telephone numbers and addresses on the web have none of."""
_NAME_PART = re.compile(r"v[ao]n|de[rn]?|dell?a?|di|da|dos|du|l[ae]|[ae]l|of|and|for|und|für|et|y")
"""Words in lower case within names and titles."""


def newest(body: str, subject: str, levels: int = 5) -> str:
    """The text that the author of a message wrote.

    A reply loses its quotes, above, below or between the author's lines. A forwarded message stays, without its
    headers, if the subject marks it as forwarded or the author wrote nothing else.

    Args:
        body: the text of the whole message.
        subject: the subject with its "Re:" or "Fwd:".
        levels: how deep messages within messages are searched.
    """
    from quotequail import unwrap

    lines = [line.strip() for line in body.replace("\xa0", " ").replace("\0", "").split("\n")]
    later = "\n".join(lines[MOST_LINES:])
    hidden: list[str] = []
    searched = "\n".join(_introduction(line, hidden) for line in lines[:MOST_LINES])
    unwrapped = unwrap(searched) if levels else None
    if not unwrapped or not _is_quote(searched, unwrapped):
        return _signed_off("\n".join(lines))
    above, quoted, below = (
        re.sub("\0(\\d+)\0", lambda match: hidden[int(match[1])], unwrapped.get(key, ""))
        for key in ("text_top", "text", "text_bottom")
    )
    own = [_signed_off(above), newest(_QUOTED.sub("", f"{below}\n{later}"), "", levels - 1) if below else ""]
    forwarded = unwrapped["type"] == "forward" and bool(_FORWARDED.match(subject))
    if forwarded or not any(own):
        own.insert(1, newest(quoted, "", levels - 1))
    return "\n\n".join(filter(None, own))


def _introduction(line: str, hidden: list[str]) -> str:
    """The line, in words that quotequail knows if it introduces a quote.

    Args:
        hidden: receives text for which quotequail's patterns would take too long. The line gets its index in this list
            instead.
    """
    addresses = line.count("@") > MOST_ADDRESSES
    if addresses or len(line) > LONGEST_LINE or line.count("<") > MOST_ADDRESSES:
        match = _RECIPIENTS.match(line) if addresses else re.match(r"(?:> ?)?", line)
        before = match[0] if match else ""
        hidden.append(line[len(before) :])
        return f"{before}\0{len(hidden) - 1}\0"
    known = line.startswith("On ") or not (_MORE_INTRODUCTIONS.match(line) and _TIME_OR_ADDRESS.search(line))
    return line if known else f"On {line.rstrip(': ')} wrote:"


def _is_quote(text: str, unwrapped: dict[str, str]) -> bool:
    """Whether quotequail's finding is a quote: forms ("Date: …") and sentences ("He wrote:") only look like one."""
    from quotequail import quote

    if unwrapped["type"] == "forward":
        return "from" in unwrapped and ("date" in unwrapped or "subject" in unwrapped)
    if unwrapped["type"] == "reply":
        quoted = quote(text, limit=MOST_LINES + 1, quote_intro_line=True)[-1][1]
        return bool(_TIME_OR_ADDRESS.search(" ".join(quoted.split("\n")[:2])))
    return True


def _signed_off(text: str) -> str:
    """The text without a signature, a disclaimer and a closing below it."""
    lines = text.strip().split("\n")
    first = max(1, len(lines) - _SIGNATURE_LINES)
    for begins in (_begins_disclaimer, _begins_signature):
        number = next((number for number in range(first, len(lines)) if begins(lines, number)), len(lines))
        lines = lines[:number]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip()


def _begins_disclaimer(lines: Sequence[str], number: int) -> bool:
    """Whether a line begins a disclaimer with nothing of the author's below it.

    It must be a paragraph's first line, or have the words of a disclaimer itself. In each paragraph below it some line
    has such words, or no line is the author's.
    """
    line = lines[number]
    if not _DISCLAIMER.match(line) or (lines[number - 1] and not _LEGAL.search(line)):
        return False
    head, *others = (list(group) for filled, group in itertools.groupby(lines[number:], key=bool) if filled)
    is_legal = [any(map(_LEGAL.search, paragraph)) for paragraph in (head, *others)]
    return any(is_legal[:2]) and all(
        legal or not any(map(_is_authors, paragraph)) for legal, paragraph in zip(is_legal[1:], others, strict=True)
    )


def _begins_signature(lines: Sequence[str], number: int) -> bool:
    """Whether a line parts the message from a signature, and no line below it is the message's.

    Below the last "--", one field under a name is part of the signature: hardly any author writes that line for
    anything else.
    """
    line = lines[number]
    if line != "--" and not _closes(line):
        return False
    below = [other for other in lines[number + 1 :] if other and not _closes(other)]
    if any(map(_is_sentence, below)) or (below and _FIELD.match(below[0]) and not _CONTACT.match(below[0])):
        return False
    most_fields = 1 if line == "--" and "--" not in below else 0
    return sum(map(_is_field, below)) <= most_fields


def _closes(line: str) -> bool:
    """Whether a line is a closing formula, or names the program that sent the message."""
    return bool(_SENT_FROM.fullmatch(line) or _CLOSING.fullmatch(line))


def _is_authors(line: str) -> bool:
    """Whether a line below the message's end may belong to the message."""
    return not _closes(line) and (_is_sentence(line) or _is_field(line))


def _is_sentence(line: str) -> bool:
    """Whether a line may be a sentence or a part of one.

    A signature has names, titles and addresses: few words, or words with a capital and only small words between them.
    """
    if _HOURS.match(line):
        return False
    words = _WORD.findall(line)
    in_lower_case = sum(word.islower() and not _NAME_PART.fullmatch(word) for word in words)
    if sum(not word.istitle() for word in words) > 5 or (len(words) > 2 and in_lower_case > 1):
        return True
    return line.endswith((".", "?", "!")) and len(line.split()) > 3


def _is_field(line: str) -> bool:
    """Whether a line may be a field of a form, and has no label that signatures have."""
    return bool(_FIELD.match(line)) and not any(label.match(line) for label in (_CONTACT, _EMPLOYER, _HOURS))
