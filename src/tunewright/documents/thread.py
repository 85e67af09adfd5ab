"""Of an e-mail's text, what is new in it: quoted messages, forwarded headers, signatures and disclaimers left out.

Where a message is quoted is told by the library quotequail. It is held to stricter rules here, because a quote that
stays costs some tokens, and a sentence that goes costs the ticket.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

MOST_LINES = 1000
"""Lines in which a quote is looked for; what is new stands at the top, and the search is quadratic at its worst."""
LONGEST_LINE = 300
"""Characters of a line that may introduce a quote; patterns with two gaps are quadratic in it."""
MOST_ADDRESSES = 3
"""Signs "@", and signs "<", in a line that may introduce a quote; a pattern of quotequail is cubic in them."""
_SIGNATURE_LINES = 25
"""Lines that a signature with its disclaimer may have."""

_FORWARDED = re.compile(r"\s*(fwd?|wg|tr|rv|i|doorst|vb|vs|enc|pd)\s*:", re.IGNORECASE)
"""Subjects of forwarded messages, in the words of mail programs in ten languages."""
_WHEN_OR_WHO = re.compile(r"\d{1,2}[:.h]\d\d|\b20\d\d\b|@")
"""What a line that introduces a quote says, and a sentence that ends in "wrote:" does not."""
_MORE_INTRODUCTIONS = re.compile(
    r".*\b(ha scritto|napisał\(a\)|napsal\(a\)|schrieb am .*|kirjoitti|skrev|escreveu|a écrit|wrote) ?:$"
)
"""Languages and orders of words that quotequail doesn't know."""
_QUOTED = re.compile(r"^>.*\n?", re.MULTILINE)
_RECIPIENTS = re.compile(r"(?:> ?)*+(?:\*?[-\w ]{1,30}+:)?")
"""What stands before many addresses: marks of a quote, and a header's name."""

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


def newest(body: str, subject: str, levels: int = 5) -> str:
    """What the author of a message wrote.

    An answer loses what it quotes, above, below or between the author's lines. A forwarded message is kept without its
    headers where the subject says that it is one, or where the author wrote nothing else.

    Args:
        body: the text of the whole message.
        subject: with its "Re:" or "Fwd:".
        levels: of messages within messages that are looked at.
    """
    from quotequail import unwrap

    lines = [line.strip() for line in body.replace("\xa0", " ").replace("\0", "").split("\n")]
    later = "\n".join(lines[MOST_LINES:])
    hidden: list[str] = []
    looked_at = "\n".join(_introduction(line, hidden) for line in lines[:MOST_LINES])
    found = unwrap(looked_at) if levels else None
    if not found or not _is_quote(looked_at, found):
        return _signed_off("\n".join(lines))
    above, quoted, below = (
        re.sub("\0(\\d+)\0", lambda match: hidden[int(match[1])], found.get(key, ""))
        for key in ("text_top", "text", "text_bottom")
    )
    own = [_signed_off(above), newest(_QUOTED.sub("", f"{below}\n{later}"), "", levels - 1) if below else ""]
    forwarded = found["type"] == "forward" and bool(_FORWARDED.match(subject))
    if forwarded or not any(own):
        own.insert(1, newest(quoted, "", levels - 1))
    return "\n\n".join(filter(None, own))


def _introduction(line: str, hidden: list[str]) -> str:
    """The line, made one that quotequail knows where it introduces a quote in other words.

    Args:
        hidden: receives what quotequail must not see, because its patterns would take too long; its place in this list
            stands in the line instead.
    """
    addresses = line.count("@") > MOST_ADDRESSES
    if addresses or len(line) > LONGEST_LINE or line.count("<") > MOST_ADDRESSES:
        match = _RECIPIENTS.match(line) if addresses else re.match(r"(?:> ?)?", line)
        before = match[0] if match else ""
        hidden.append(line[len(before) :])
        return f"{before}\0{len(hidden) - 1}\0"
    known = line.startswith("On ") or not (_MORE_INTRODUCTIONS.match(line) and _WHEN_OR_WHO.search(line))
    return line if known else f"On {line.rstrip(': ')} wrote:"


def _is_quote(text: str, found: dict[str, str]) -> bool:
    """Whether what quotequail found is a quote: forms ("Date: …") and sentences ("He wrote:") look like one."""
    from quotequail import quote

    if found["type"] == "forward":
        return "from" in found and ("date" in found or "subject" in found)
    if found["type"] == "reply":
        behind = quote(text, limit=MOST_LINES + 1, quote_intro_line=True)[-1][1]
        return bool(_WHEN_OR_WHO.search(" ".join(behind.split("\n")[:2])))
    return True


def _signed_off(text: str) -> str:
    """The text without what stands below it."""
    lines = text.strip().split("\n")
    first = max(1, len(lines) - _SIGNATURE_LINES)
    for number in range(first, len(lines)):
        if _DISCLAIMER.match(lines[number]):
            lines = lines[:number]
            break
    for number in range(first, len(lines)):
        line = lines[number]
        cut = (
            line == "--"
            or _SENT_FROM.fullmatch(line)
            or (_CLOSING.fullmatch(line) and not _speaks(lines[number + 1 :]))
        )
        if cut:
            lines = lines[:number]
            break
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip()


def _speaks(lines: Iterable[str]) -> bool:
    """Whether there is a sentence among some lines: a postscript, not a name with its address."""
    return any(line.endswith((".", "?", "!")) and len(line.split()) > 3 for line in lines)
