"""Documents as text. Training data, the command line and the server all use the same function, `text_of`.

process -> plain text is read here, all else in a child process that may be killed: pool.py, worker.py, frames.py
kind    -> by the first bytes, then by the suffix: kinds.py
words   -> pdf.py, ocr.py give words with their places; layout.py makes a text of them that looks like the page
text    -> decoding.py, mail.py with thread.py, markup.py
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from tunewright.core.errors import UserError
from tunewright.core.limits import DOCUMENT_BYTES, DOCUMENT_CPU_SECONDS, DOCUMENT_IN_PROCESS_BYTES
from tunewright.documents.kinds import SUFFIXES, plain_text_of

__all__ = ["SUFFIXES", "is_there", "read_document", "require_within", "text_of"]


def is_there(path: Path) -> bool:
    """Whether a file exists. The path may be any text of a row, also one that no file system allows."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def require_within(root: Path, path: Path) -> None:
    """Check that a document of a row lies in a folder. Symbolic links are followed.

    Raises:
        UserError: it lies elsewhere.
    """
    try:
        found, allowed = path.resolve(), root.resolve()
    except (OSError, ValueError, RuntimeError):  # not a file name, or a cycle of links: there is no such file
        return
    if found.is_relative_to(allowed):
        return
    raise UserError(
        "The document lies outside the folder of the data.",
        where=path,
        why=f"A row may only name documents in {allowed}, so that no row can read other files of this machine.",
        fix=f"Move it there; or, if you trust the rows, write into the spec: data.documents_root: {found.parent}",
    )


def read_document(path: Path) -> str:
    """The text of a document on disk.

    Raises:
        UserError: there is no such file, it is a device or a pipe, it can't be opened, or as in `text_of`.
        ModuleNotFoundError: a library of the [documents] extra is missing.
    """
    if not is_there(path):
        raise UserError("There is no such document.", where=path, fix="Check the path.")
    try:
        # Without O_NONBLOCK, a pipe that took the file's place would block this process for ever.
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise UserError("There is no such document.", where=path, fix="Check the path.")
            content = file.read(DOCUMENT_BYTES + 1)  # some kernel files have no size and no end
    except OSError as error:
        raise UserError(f"The document can't be read: {error.strerror}.", where=path, fix="Check the path.") from None
    return text_of(str(path), content)


def text_of(name: str, content: bytes, seconds: int = DOCUMENT_CPU_SECONDS) -> str:
    """The text of a document, as the model reads it.

    A child process parses everything but plain text, within limits of memory and time (`tunewright.core.limits`).

    Args:
        name: the file name. Its suffix gives the kind where the first bytes don't.
        seconds: processor time that parsing may take.

    Raises:
        UserError: the kind can't be read, the file is broken or has no text, or it exceeds a limit; the message says
            what to type.
        Abandoned, OutOfTime: as `tunewright.core.call.check_call`.
        ModuleNotFoundError: a library of the [documents] extra is missing.
    """
    if len(content) > DOCUMENT_BYTES:
        raise UserError(
            f"The document is larger than {DOCUMENT_BYTES >> 20} MiB.", where=name, fix="Cut out the pages that matter."
        )
    if len(content) <= DOCUMENT_IN_PROCESS_BYTES and (text := plain_text_of(name, content)) is not None:
        return text
    from tunewright.documents.pool import POOL  # here, because the worker imports this package and needs no pool

    return POOL.text_of(name, content, seconds)
