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


def html_root(name: str, text: str) -> _Element | None:
    """The root of an HTML text, however broken; None: the text is empty.

    Raises:
        UserError: the parser stopped before the text's end, because elements are nested too deeply.
    """
    from lxml import etree

    # Without huge_tree the parser stops at 256 open elements or a value of 10 MB; the limits on the process suffice.
    parser = etree.HTMLParser(encoding="utf-8", no_network=True, remove_comments=True, remove_pis=True, huge_tree=True)
    try:
        root = etree.fromstring(_DECLARATION.sub("", text).encode(errors="replace"), parser)
    except etree.XMLSyntaxError:
        return None
    # The parser recovers from errors, except from fatal ones: there it returns what it has read so far.
    if parser.error_log.filter_from_level(etree.ErrorLevels.FATAL):
        raise _too_deep(name)
    # Text below </html>, such as a mail gateway's, makes a second root.
    for other in list(root.itersiblings()) if root is not None else ():
        other.tag = "p"
        root.append(other)
    return root


def text_of_html(name: str, text: str) -> str:
    """HTML as text: paragraphs, lists, and tables in columns, without scripts, styles and pictures.

    Raises:
        UserError: its elements are nested too deeply.
    """
    from inscriptis.html_engine import Inscriptis

    root = html_root(name, text)
    try:
        return "" if root is None else str(Inscriptis(root).get_text())
    except RecursionError:
        raise _too_deep(name) from None


def _too_deep(name: str) -> UserError:
    return UserError("The HTML's elements are nested too deeply.", where=name, fix="Leave it out.")
