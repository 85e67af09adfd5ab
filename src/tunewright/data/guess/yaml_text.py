"""Texts as YAML reads them back."""

from __future__ import annotations

import json
import re
from typing import Any

_UNPRINTED = re.compile("[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]")


def yaml_scalar(value: str) -> str:
    """A YAML scalar: plain where YAML reads the same text back, in double quotes (as in JSON) otherwise."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    if re.fullmatch(r"[\w./][\w ./-]*", value):
        try:
            if YAML(typ="safe").load(value) == value:
                return value
        except YAMLError:
            pass
    return yaml_text(value)


def yaml_text(value: Any) -> str:
    """A value as JSON that YAML reads back. YAML refuses some characters as they are, or takes them for line breaks."""
    text = json.dumps(value, ensure_ascii=False)
    return _UNPRINTED.sub(lambda sign: f"\\u{ord(sign[0]):04x}", text)
