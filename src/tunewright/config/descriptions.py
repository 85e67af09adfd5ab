"""The JSON Schema of a spec, whose properties are described by the docstrings of their fields.

pydantic's own setting for it (`use_attribute_docstrings`) reads the source of each class whenever it is imported, which
took every command a tenth of a second.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from functools import cache
from itertools import pairwise
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema
from pydantic_core import core_schema


def described_schema(model: type[BaseModel]) -> dict[str, Any]:
    """The JSON Schema of a model."""
    return model.model_json_schema(schema_generator=_DescribedSchema)


class _DescribedSchema(GenerateJsonSchema):
    def model_schema(self, schema: core_schema.ModelSchema) -> dict[str, Any]:
        written, model = super().model_schema(schema), schema["cls"]
        docstrings: dict[str, str] = {}
        for each in reversed(model.__mro__):
            if issubclass(each, BaseModel) and each is not BaseModel:
                docstrings |= _docstrings(each)
        for name, docstring in docstrings.items():
            shown = written["properties"].get(model.model_fields[name].alias or name)
            if shown is not None:  # hidden ones are not in the schema
                shown["description"] = docstring
        return written


@cache
def _docstrings(model: type[BaseModel]) -> dict[str, str]:
    """The docstrings below a class's own fields, by field."""
    (body,) = ast.parse(textwrap.dedent(inspect.getsource(model))).body
    assert isinstance(body, ast.ClassDef)
    return {
        field.target.id: inspect.cleandoc(docstring.value.value)
        for field, docstring in pairwise(body.body)
        if isinstance(field, ast.AnnAssign)
        and isinstance(field.target, ast.Name)
        and isinstance(docstring, ast.Expr)
        and isinstance(docstring.value, ast.Constant)
        and isinstance(docstring.value.value, str)
    }
