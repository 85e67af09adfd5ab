"""A request's input: a text, or a document to read the text from."""

from __future__ import annotations

import base64
import binascii
from typing import Annotated, Any, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator, model_validator

from tunewright.core.limits import REQUEST_DOCUMENT_BYTES, REQUEST_DOCUMENT_CPU_SECONDS


class Document(BaseModel):
    model_config = ConfigDict(extra="forbid")

    name: str = Field(min_length=1, max_length=255)
    """The file's name. Its suffix gives the kind where the first bytes don't."""
    content: bytes
    """In JSON as base64."""

    @field_validator("content", mode="before")
    @classmethod
    def _from_base64(cls, value: Any) -> bytes:
        try:
            content = base64.b64decode(value, validate=True)
        except (TypeError, ValueError, binascii.Error):
            raise ValueError("the document's content is not base64") from None
        if len(content) > REQUEST_DOCUMENT_BYTES:
            raise ValueError(f"the document is larger than {REQUEST_DOCUMENT_BYTES >> 20} MiB")
        return content


def whole_letters(text: str) -> str:
    """Refuse half a letter (a lone surrogate): JSON can hold one, but no tokenizer and no file can."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("there is half a letter in it, a lone surrogate") from None
    return text


Text = Annotated[str, AfterValidator(whole_letters)]


def _not_empty(text: str) -> str:
    """Refuse an empty text: a model would make something up."""
    if not text.strip():
        raise ValueError("there is nothing in it to read")
    return text


class RequestInput(BaseModel):
    """The input of a plain route or of a batch's line: exactly one of text and document."""

    model_config = ConfigDict(extra="forbid")

    model: str | None = None
    """One of the server's models; None: the only one."""
    text: Annotated[Text, AfterValidator(_not_empty)] | None = None
    document: Document | None = None

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        if (self.text is None) == (self.document is None):
            raise ValueError("give either text or document")
        return self

    def read(self) -> str:
        """The text. A document is read as in the training data.

        Raises:
            UserError: the document can't be read.
            ModuleNotFoundError: a library of the [documents] extra is missing.
        """
        if self.document is None:
            return self.text or ""
        from tunewright.documents import text_of

        return text_of(self.document.name, self.document.content, REQUEST_DOCUMENT_CPU_SECONDS)
