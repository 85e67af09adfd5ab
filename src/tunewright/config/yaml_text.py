"""YAML from users: plain values only, of bounded size, with every fault as a `UserError` that names its line."""

from __future__ import annotations

from functools import cache
from typing import Any

from tunewright.core.errors import UserError, shortened
from tunewright.core.limits import SPEC_BYTES, SPEC_DEPTH, SPEC_DIGITS, SPEC_NODES

_TAG = "tag:yaml.org,2002:"
_TAGS = frozenset(
    f"{_TAG}{name}" for name in ("str", "int", "float", "bool", "null", "map", "seq", "timestamp", "merge")
)
_NUMBERS = (f"{_TAG}int", f"{_TAG}float")


def read_yaml(text: str, where: str, fix: str = "Fix that line, then run again.") -> Any:
    """Read a YAML text into lists, mappings that know their lines (`lc`), strings, numbers, booleans and None. Dates
    stay strings.

    Args:
        where: the file or other source, for errors.
        fix: the advice if the text is not YAML.

    Raises:
        UserError: the text is not YAML; it is larger, more deeply nested or has more values than a spec may have, with
            its anchors resolved; or it holds another kind of value.
    """
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    if len(text) > SPEC_BYTES:
        raise UserError(f"This has more than {SPEC_BYTES:,} characters.", where=where, fix=_SMALLER)
    yaml = YAML(typ="rt", pure=True)
    yaml.Constructor, yaml.Scanner = _constructor(), _scanner()
    try:
        constructor, _ = yaml.get_constructor_parser(text)
        node = constructor.composer.get_single_node()
        if node is None:
            return None
        _Extent(where).add(node, 1)
        return constructor.construct_document(node)
    except UserError:
        raise
    except _Deep as error:
        raise UserError(_too_deep(), where=f"{where}:{error.line}", fix=_SMALLER) from None
    except RecursionError:
        raise UserError(_too_deep(), where=where, fix=_SMALLER) from None
    except YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        problem = problem.partition(" with value ")[0]  # of a duplicate key, which may hold a secret
        raise _broken(problem, f"{where}:{mark.line + 1}" if mark else where, fix) from None
    except (MemoryError, OSError):
        raise
    except Exception as error:  # noqa: BLE001 (ruamel.yaml raises many kinds of errors at odd texts)
        raise _broken(f"{type(error).__name__}: {error}", where, fix) from None


_SMALLER = "Make it smaller: a spec has some dozen lines, and data belong in separate files."


def _broken(problem: str, where: str, fix: str) -> UserError:
    return UserError(f"The YAML can't be read: {shortened(problem, 300)}.", where=where, fix=fix)


def _too_deep() -> str:
    return f"This is nested more than {SPEC_DEPTH} levels deep."


class _Extent:
    """Counts the values of a text before they are built. Each use of an anchor counts again."""

    def __init__(self, where: str):
        self._where = where
        self._nodes = self._letters = 0
        self._open: set[int] = set()

    def add(self, node: Any, depth: int) -> None:
        """Count a node and the nodes inside it.

        Raises:
            UserError: there are too many nodes, or a spec can't have such a node.
        """
        self._nodes += 1
        if self._nodes > SPEC_NODES:
            raise self._refused(node, f"This has more than {SPEC_NODES:,} values with its anchors resolved.")
        if depth > SPEC_DEPTH:
            raise self._refused(node, _too_deep())
        if node.tag not in _TAGS:
            raise self._refused(node, f"A spec can't have the tag {shortened(str(node.tag), 80)}.", "Leave it out.")
        if isinstance(node.value, str):
            self._add_scalar(node)
            return
        if id(node) in self._open:
            raise self._refused(node, "This anchor contains itself.", "Write its value out.")
        self._open.add(id(node))
        for inner in node.value:
            for each in inner if isinstance(inner, tuple) else (inner,):
                self.add(each, depth + 1)
        self._open.remove(id(node))

    def _add_scalar(self, node: Any) -> None:
        self._letters += len(node.value)
        if self._letters > SPEC_BYTES:
            raise self._refused(node, f"This has more than {SPEC_BYTES:,} characters with its anchors resolved.")
        if node.tag in _NUMBERS and len(node.value) > SPEC_DIGITS:
            what = f"This number has {len(node.value):,} characters."
            raise self._refused(node, what, "Write a smaller number, or put it in quotes if it is text.")
        if odd := next((sign for sign in node.value if sign == "\0" or "\ud800" <= sign <= "\udfff"), None):
            what = f"This text holds U+{ord(odd):04X}, which is not a character."
            raise self._refused(node, what, "Write the character itself.")

    def _refused(self, node: Any, what: str, fix: str = _SMALLER) -> UserError:
        return UserError(what, where=f"{self._where}:{node.start_mark.line + 1}", fix=fix)


@cache
def _constructor() -> Any:
    from ruamel.yaml.constructor import RoundTripConstructor, SafeConstructor

    class Constructor(RoundTripConstructor):
        """Reads dates as strings, because a spec has no dates, and booleans as Python's, anchored ones too."""

    Constructor.add_constructor(f"{_TAG}timestamp", RoundTripConstructor.construct_scalar)
    Constructor.add_constructor(f"{_TAG}bool", SafeConstructor.construct_yaml_bool)
    return Constructor


class _Deep(Exception):
    """Brackets are nested too deeply, at a line counted from 1."""

    def __init__(self, line: int):
        self.line = line
        super().__init__(line)


@cache
def _scanner() -> Any:
    from ruamel.yaml.scanner import RoundTripScanner

    class Scanner(RoundTripScanner):
        """Stops at brackets that are nested too deeply, because ruamel.yaml visits all open ones at each bracket."""

        def fetch_flow_collection_start(self, TokenClass: Any, to_push: str) -> None:
            if self.flow_level >= SPEC_DEPTH:
                raise _Deep(self.reader.line + 1)
            super().fetch_flow_collection_start(TokenClass, to_push)

    return Scanner
