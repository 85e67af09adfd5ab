"""The process that reads documents for the process that started it, one after the other and each within limits.

    python -m tunewright.documents.worker BYTES [--ready]

The process may take BYTES of memory in addition to what it has at the start. With --ready it imports all parsers first,
so that the first document does not wait for them. The kernel enforces the limits of memory and processor time, so they
hold in a library's loop too; `pool` watches the clock. macOS has no limit of the address space: there, only the time
limits bound the memory.
"""

from __future__ import annotations

import importlib
import json
import math
import os
import resource
import signal
import sys
import traceback
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from tunewright.core.errors import EXTRA_OF, UserError
from tunewright.core.processes import end_with_parent
from tunewright.documents import kinds
from tunewright.documents.frames import ANSWER, ENCODING, ERRORS, MISSING, OUT_OF_MEMORY, READY, REFUSED, REQUEST, TEXT


def main(memory: int, *, ready: bool = False) -> None:
    """Answer requests until standard input ends.

    Args:
        memory: bytes that reading a document may take.
        ready: whether to import the parsers before the first request.
    """
    end_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is meant for the process that the user started
    signal.signal(signal.SIGXCPU, signal.SIG_DFL)
    requests, answers = os.fdopen(0, "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # a library's prints must not mix with the answers
    if ready:
        _import_parsers()
    size = _own_bytes()
    _limit(resource.RLIMIT_CORE, 0)
    if size:
        _limit(resource.RLIMIT_AS, size + memory)
    with suppress(OSError):  # when memory runs out, the kernel must end this process and not the server
        Path("/proc/self/oom_score_adj").write_text("1000", "ascii")
    while head := requests.read(REQUEST.size):
        kind, body = _answer(requests, *REQUEST.unpack(head))
        worn = _own_bytes() > size + memory // 4  # the next document needs that memory
        answers.write(ANSWER.pack(kind, worn, len(body)))
        answers.write(body)
        answers.flush()


def _import_parsers() -> None:
    for name in EXTRA_OF["documents"]:
        with suppress(ImportError):
            importlib.import_module(name)


def _own_bytes() -> int:
    """The size of this process's address space; 0 on a system that does not give it."""
    try:
        pages = int(Path("/proc/self/statm").read_text("ascii").split()[0])
    except OSError:
        return 0
    return pages * resource.getpagesize()


def _limit(which: int, amount: int) -> None:
    """Set a soft limit, as far as the hard one allows."""
    hard = resource.getrlimit(which)[1]
    resource.setrlimit(which, (amount if hard == resource.RLIM_INFINITY else min(amount, hard), hard))


def _answer(requests: BinaryIO, name_bytes: int, content_bytes: int, seconds: int) -> tuple[int, bytes]:
    """Read a request and make its answer: (kind, body)."""
    name = requests.read(name_bytes).decode(ENCODING, ERRORS)
    content = requests.read(content_bytes)
    _limit(resource.RLIMIT_CPU, math.ceil(sum(os.times()[:2])) + seconds)
    try:
        return TEXT, kinds.text_of(name, content).encode(ENCODING, ERRORS)
    except UserError as error:
        refusal = error
    except MemoryError:
        os._exit(OUT_OF_MEMORY)
    except ModuleNotFoundError as error:
        return MISSING, (error.name or "").encode()
    except RecursionError:
        refusal = UserError("The document's parts are nested too deeply.", where=name, fix="Leave it out.")
    except Exception as error:  # noqa: BLE001 (whatever a parser raises, the document is to blame)
        refusal = _unforeseen(name, error)
    arguments = {"what": refusal.what, "where": refusal.where, "why": refusal.why, "fix": refusal.fix}
    return REFUSED, json.dumps(arguments).encode()


def _unforeseen(name: str, error: Exception) -> UserError:
    """The refusal for any other error. The error's message is left out: it may quote the document."""
    place = traceback.extract_tb(error.__traceback__)[-1]
    return UserError(
        f"The document can't be read: {type(error).__name__} in {Path(place.filename).name}, line {place.lineno}.",
        where=name,
        fix="Export it again, or leave it out.",
    )


if __name__ == "__main__":
    main(int(sys.argv[1]), ready=READY in sys.argv)
