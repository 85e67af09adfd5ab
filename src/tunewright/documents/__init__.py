"""Documents as text: the same function for training data, the command line and the server.

process -> plain text is read here, all else in a process that may be killed: pool.py, worker.py, frames.py
kind    -> by the first bytes, then by the suffix: kinds.py
words   -> pdf.py, ocr.py (words with places), which layout.py makes look like the page
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
    """Whether there is a file, of whatever a row's column says: names that no system takes are no files."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def require_within(root: Path, path: Path) -> None:
    """Check that a document which a row names lies in a folder, symbolic links followed.

    Raises:
        UserError: it lies elsewhere.
    """
    try:
        found, allowed = path.resolve(), root.resolve()
    except (OSError, ValueError, RuntimeError):  # no name of a file, or links in a circle: there is no such file
        return
    if found.is_relative_to(allowed):
        return
    raise UserError(
        "The document lies outside the folder of the data.",
        where=path,
        why=f"A row may only name what lies in {allowed}, so that no row can read other files of this machine.",
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
        # Without O_NONBLOCK a pipe that took the file's place would hold this process for ever.
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise UserError("There is no such document.", where=path, fix="Check the path.")
            content = file.read(DOCUMENT_BYTES + 1)  # some files of the kernel have no size, and no end
    except OSError as error:
        raise UserError(f"The document can't be read: {error.strerror}.", where=path, fix="Check the path.") from None
    return text_of(str(path), content)


def text_of(name: str, content: bytes, seconds: int = DOCUMENT_CPU_SECONDS) -> str:
    """The text of a document, as the model reads it.

    All but plain text is parsed in another process, within limits of memory and time (`tunewright.core.limits`).

    Args:
        name: its file name, which tells the kind where the first bytes don't.
        seconds: of processor time that parsing it may take.

    Raises:
        UserError: a kind that can't be read, a broken file, one without text, or one that exceeds a limit; says what
            to type.
        Abandoned, OutOfTime: nobody waits for the text any more, as `tunewright.core.call.check_call`.
        ModuleNotFoundError: a library of the [documents] extra is missing.
    """
    if len(content) > DOCUMENT_BYTES:
        raise UserError(
            f"The document is larger than {DOCUMENT_BYTES >> 20} MiB.", where=name, fix="Cut out the pages that matter."
        )
    if len(content) <= DOCUMENT_IN_PROCESS_BYTES and (text := plain_text_of(name, content)) is not None:
        return text
    from tunewright.documents.pool import POOL  # the worker imports this package, and needs none of it

    return POOL.text_of(name, content, seconds)
