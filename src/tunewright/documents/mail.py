"""E-mail: the subject, and the author's own text."""

from __future__ import annotations

import email
import re
from email.errors import HeaderParseError
from email.header import decode_header
from email.message import Message
from typing import Any, cast

from tunewright.core.errors import UserError
from tunewright.core.limits import MAIL_DEPTH, MAIL_HEADER_CHARACTERS, MAIL_PARTS, MAIL_SUBJECT_CHARACTERS
from tunewright.documents.decoding import decoded
from tunewright.documents.markup import text_of_html
from tunewright.documents.thread import newest

_FOLD = re.compile(r"\r?\n(?=[ \t])")


class _Refused(Exception):
    """Raised within Python's parser, with the fault of the e-mail."""


class _Part(Message):
    """A message or a part of one. It raises before Python's parser takes quadratic time."""

    depth = 0

    def attach(self, payload: Any) -> None:
        payload.depth = self.depth + 1
        if payload.depth > MAIL_DEPTH:
            raise _Refused(f"The e-mail's parts are nested too deeply: more than {MAIL_DEPTH} within each other.")
        super().attach(payload)

    def set_raw(self, name: str, value: Any) -> None:
        if len(value) > MAIL_HEADER_CHARACTERS and name.lower().startswith("content-"):
            raise _Refused(f"The e-mail has a header {name[:40]} of more than {MAIL_HEADER_CHARACTERS} characters.")
        super().set_raw(name, value)


def text_of_mail(name: str, content: bytes) -> str:
    """`Subject: …`, a blank line, and the newest message of the thread.

    Of alternatives, plain text counts before HTML. Attachments are left out, except a forwarded message if the e-mail
    has no other text. Sender and date are left out: a model would learn who writes about what.

    Raises:
        UserError: the e-mail has neither a subject nor a text, has too many parts, or is nested too deeply.
    """
    # Not with policy.default: its parsers raise on headers that are only a little broken.
    try:
        message = email.message_from_bytes(content, _class=_Part)
        subject = " ".join(_subject(message).split())
        body = _body(name, message)
    except _Refused as error:
        raise UserError(str(error), where=name, fix="Leave it out.") from None
    message_text = newest(body, subject)
    text = f"Subject: {subject}\n\n{message_text}".strip() if subject else message_text
    if not text:
        raise UserError("The e-mail has neither a subject nor a text.", where=name, fix="Leave it out.")
    return text


def _subject(message: Message) -> str:
    """The subject. Encoded words are decoded; raw bytes are read as UTF-8 or Windows-1252."""
    raw = "".join(value for key, value in message.raw_items() if key.lower() == "subject" and isinstance(value, str))
    unfolded = _FOLD.sub("", raw)
    if len(unfolded) > MAIL_SUBJECT_CHARACTERS:
        cut = unfolded[:MAIL_SUBJECT_CHARACTERS]
        unfolded = cut.rpartition(" ")[0] or cut  # cut before an encoded word, not within it
    try:
        pairs = decode_header(unfolded)
    except (HeaderParseError, ValueError):
        pairs = [(unfolded, None)]
    # The parser gives bytes that are not ASCII as lone surrogates.
    return "".join(decoded(_bytes(part), charset) for part, charset in pairs)


def _bytes(part: str | bytes) -> bytes:
    return part if isinstance(part, bytes) else part.encode("utf-8", "surrogateescape")


def _body(name: str, message: Message) -> str:
    text = _BodyReader(name).text(message)
    if text:
        return text
    attached = [part for part in message.walk() if part.get_content_type() == "message/rfc822" and part.is_multipart()]
    return _body(name, attached[0].get_payload(0)) if attached else ""  # type: ignore[arg-type]


class _BodyReader:
    """Reads the text of one message's body. Attachments and attached messages are left out."""

    def __init__(self, name: str):
        self._name = name
        self._seen = 0
        self._has_text = False

    def text(self, part: Message) -> str:
        """The text of a part, empty if it is blank: all parts of it, or one of alternatives."""
        self._seen += 1
        if self._seen > MAIL_PARTS:
            raise _Refused(f"The e-mail has more than {MAIL_PARTS} parts.")
        kind = part.get_content_type()
        if part.is_multipart() and kind != "message/rfc822":
            children = cast("list[Message]", part.get_payload())
            if kind == "multipart/alternative":
                children = sorted(children, key=lambda child: child.get_content_type() != "text/plain")
                return next(filter(None, map(self.text, children)), "")
            return "\n\n".join(filter(None, map(self.text, children)))
        if kind not in ("text/plain", "text/html") or self._is_attached(part):
            return ""
        text = _text(part) if kind == "text/plain" else text_of_html(self._name, _text(part))
        if not text.strip():
            return ""
        self._has_text = True
        return text

    def _is_attached(self, part: Message) -> bool:
        """Whether a part is an attachment. Some programs give the body a name too, so the first text may have one."""
        return part.get_content_disposition() == "attachment" or (self._has_text and _has_name(part))


def _has_name(part: Message) -> bool:
    """Whether a part has a file's name, in either of the headers that may give one."""
    try:
        return bool(part.get_filename())
    except ValueError:  # a NUL in the charset of the name
        return True


def _text(part: Message) -> str:
    content = part.get_payload(decode=True)
    try:
        charset = part.get_content_charset()
    except ValueError:  # a NUL in the charset's name
        charset = None
    return decoded(content, charset) if isinstance(content, bytes) else ""
