"""XML and HTML, parsed without entities, network or unbounded trees."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from tunewright.core.errors import UserError

if TYPE_CHECKING:
    from lxml.etree import _Element

_DECLARATION = re.compile(r"^\s*<\?xml[^>]*\?>")


def xml_root(name: str, text: str) -> _Element:
    """The root of an XML text.

    Raises:
        UserError: it is not well-formed, or it declares entities; a few lines of these could fill any memory.
    """
    from lxml import etree

    if "<!ENTITY" in text:
        raise UserError("The XML declares entities, which Tunewright refuses.", where=name, fix="Remove its DOCTYPE.")
    parser = etree.XMLParser(encoding="utf-8", resolve_entities=False, no_network=True, remove_comments=True)
    try:
        return etree.fromstring(_DECLARATION.sub("", text).encode(errors="replace"), parser)
    except etree.XMLSyntaxError as error:
        raise UserError(f"The XML can't be read: {error.msg}.", where=name, fix="Run the OCR again.") from None


def html_root(text: str) -> _Element | None:
    """The root of an HTML text, however broken; None: the text is empty."""
    from lxml import etree

    parser = etree.HTMLParser(encoding="utf-8", no_network=True, remove_comments=True)
    try:
        return etree.fromstring(_DECLARATION.sub("", text).encode(errors="replace"), parser)
    except etree.XMLSyntaxError:
        return None


def text_of_html(text: str) -> str:
    """HTML as text: paragraphs, lists, and tables in columns, without scripts, styles and pictures."""
    from inscriptis import get_text

    return str(get_text(_DECLARATION.sub("", text).encode(errors="replace").decode()))
