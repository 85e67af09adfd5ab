"""The processes that read documents: they may be killed at any time, and others take over."""

from __future__ import annotations

import contextvars
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import python
from tests.documents import hostile
from tests.documents.samples import INVOICE, path_without, pdf
from tunewright.core import limits
from tunewright.core.call import CALL, Abandoned, Call
from tunewright.core.errors import UserError
from tunewright.documents import pool, text_of
from tunewright.documents.pool import Pool

MAIL = b"Subject: lamp\n\nbroken\n"
TEXT = "Subject: lamp\n\nbroken"
SOURCE = str(Path(pool.__file__).parents[2])


@pytest.fixture
def own(monkeypatch: pytest.MonkeyPatch) -> Iterator[Pool]:
    """A fresh pool that `text_of` uses."""
    fresh = Pool()
    monkeypatch.setattr(pool, "POOL", fresh)
    yield fresh
    fresh.close()


def worker_of(pool: Pool) -> subprocess.Popen[bytes]:
    """The process that answered last."""
    return pool._idle[-1]._process


def ended(worker: subprocess.Popen[bytes]) -> None:
    """Wait for the end of a process that was killed, and leave its exit code to the pool."""
    os.waitid(os.P_PID, worker.pid, os.WEXITED | os.WNOWAIT)


def runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text("ascii").rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def eventually(holds: Callable[[], bool], seconds: float = 60) -> bool:
    deadline = time.monotonic() + seconds
    while not holds() and time.monotonic() < deadline:
        time.sleep(0.02)
    return holds()


def test_a_worker_is_reused(own: Pool) -> None:
    text_of("a.eml", MAIL)
    first = worker_of(own).pid
    assert text_of("a.eml", MAIL) == TEXT
    assert worker_of(own).pid == first


def test_plain_text_needs_no_worker_unless_it_is_long(own: Pool) -> None:
    line = b"hello there\n"
    assert text_of("a.txt", line) == "hello there"
    assert not own._workers
    content = line * (limits.DOCUMENT_IN_PROCESS_BYTES // len(line) + 1)
    assert text_of("a.txt", content) == content.decode().strip()
    assert own._workers


def test_a_worker_that_was_killed_while_it_waited_is_replaced(own: Pool) -> None:
    text_of("a.eml", MAIL)
    first = worker_of(own)
    first.kill()
    ended(first)
    assert text_of("a.eml", MAIL) == TEXT
    assert worker_of(own).pid != first.pid
    assert len(own._workers) == 1


def test_a_document_is_read_again_where_its_worker_was_killed(own: Pool) -> None:
    text_of("a.eml", MAIL)
    first = worker_of(own)
    first.send_signal(signal.SIGSTOP)
    found: list[str] = []
    asking = threading.Thread(target=lambda: found.append(text_of("a.eml", MAIL)))
    asking.start()
    assert eventually(lambda: not own._idle)
    first.kill()
    asking.join()
    assert found == [TEXT]


@pytest.mark.slow
def test_a_worker_that_is_stuck_is_killed_and_replaced(own: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    text_of("a.eml", MAIL)
    first = worker_of(own)
    first.send_signal(signal.SIGSTOP)
    with monkeypatch.context() as patched:
        patched.setattr(limits, "DOCUMENT_WALL_SECONDS", 1)
        # More than a pipe holds, so that sending it waits too.
        for content in (MAIL, MAIL * 100_000):
            with pytest.raises(UserError, match=r"^a\.eml: Reading the document took longer than 1 seconds\. Cut out"):
                text_of("a.eml", content)
            if content is MAIL:
                patched.setattr(limits, "DOCUMENT_WALL_SECONDS", 60)
                text_of("a.eml", MAIL)
                patched.setattr(limits, "DOCUMENT_WALL_SECONDS", 1)
                worker_of(own).send_signal(signal.SIGSTOP)
    assert first.returncode == -signal.SIGKILL
    assert text_of("a.eml", MAIL) == TEXT


@pytest.mark.slow
@pytest.mark.usefixtures("own")
@pytest.mark.parametrize("may_take_back", [True, False])
def test_a_document_that_takes_long_gets_a_low_priority(
    may_take_back: bool, own: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If this user may not raise the priority again, the worker is replaced."""
    text_of("a.eml", MAIL)
    worker, set_priority = worker_of(own), os.setpriority
    usual = os.getpriority(os.PRIO_PROCESS, worker.pid)

    def as_anybody(which: int, who: int, niceness: int) -> None:
        if niceness < os.getpriority(which, who) and not may_take_back:
            raise PermissionError
        set_priority(which, who, niceness)

    monkeypatch.setattr(os, "setpriority", as_anybody)
    worker.send_signal(signal.SIGSTOP)
    reading = threading.Thread(target=lambda: text_of("b.eml", MAIL))
    reading.start()
    assert eventually(lambda: os.getpriority(os.PRIO_PROCESS, worker.pid) > usual)
    worker.send_signal(signal.SIGCONT)
    reading.join()
    assert (worker.poll() is None) is may_take_back
    if may_take_back:
        assert os.getpriority(os.PRIO_PROCESS, worker.pid) == usual
    assert text_of("a.eml", MAIL) == TEXT


@pytest.mark.slow
def test_the_processor_time_of_each_document_is_limited() -> None:
    with pytest.raises(UserError, match="took more than 1 seconds of processor time"):
        text_of("a.json", hostile.slow_words(), seconds=1)
    assert text_of("a.html", b"<p>hello") == "hello"


def abandoned() -> None:
    """Read a document for a client that has gone."""
    call = Call(seconds=600)
    call.gone.set()
    context = contextvars.copy_context()
    context.run(CALL.set, call)
    with pytest.raises(Abandoned):
        context.run(text_of, "a.eml", MAIL)


@pytest.mark.slow
def test_reading_stops_when_the_client_has_gone(own: Pool) -> None:
    text_of("a.eml", MAIL)
    first = worker_of(own)
    first.send_signal(signal.SIGSTOP)
    abandoned()
    assert first.returncode == -signal.SIGKILL
    assert text_of("a.eml", MAIL) == TEXT


@pytest.mark.slow
def test_waiting_for_a_worker_stops_when_the_client_has_gone(own: Pool) -> None:
    taken = 0
    while own._places.acquire(blocking=False):
        taken += 1
    abandoned()
    own._places.release(taken)
    assert text_of("a.eml", MAIL) == TEXT


@pytest.mark.slow
def test_an_ended_worker_is_replaced_before_the_next_document(own: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Importing the parsers takes a tenth of a second, and no document waits for it. The pool
    never grows beyond its size."""
    text_of("a.eml", MAIL)
    monkeypatch.setattr(limits, "DOCUMENT_WALL_SECONDS", 1)
    for _ in range(2 * own._most):
        first = worker_of(own)
        first.send_signal(signal.SIGSTOP)
        with pytest.raises(UserError, match="took longer"):
            text_of("a.eml", MAIL)
        assert eventually(lambda: bool(own._idle))
        assert "--ready" in worker_of(own).args
    assert len(own._workers) <= own._most
    assert eventually(lambda: "pypdfium2" in Path(f"/proc/{worker_of(own).pid}/maps").read_text("utf-8"))
    monkeypatch.undo()
    assert text_of("invoice.pdf", pdf(INVOICE))


@pytest.mark.slow
@pytest.mark.usefixtures("own")
def test_memory_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(limits, "DOCUMENT_MEMORY_BYTES", 100 << 20)
        with pytest.raises(UserError, match="took more than 100 MiB of memory"):
            text_of("a.json", b"[" + b"[]," * 3_000_000 + b"[]]")
    assert text_of("a.eml", MAIL) == TEXT


@pytest.mark.slow
def test_a_worker_that_grew_too_large_is_replaced(own: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "DOCUMENT_MEMORY_BYTES", 256 << 20)
    with pytest.raises(UserError, match="The JSON must have an object here, not list"):
        text_of("a.json", b"[" + b"[]," * 1_000_000 + b"[]]")
    text_of("a.eml", MAIL)
    small = worker_of(own).pid
    text_of("a.eml", MAIL)
    assert worker_of(own).pid == small


@pytest.mark.usefixtures("own")
def test_a_text_larger_than_a_document_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "DOCUMENT_TEXT_BYTES", 10)
    with pytest.raises(UserError, match="The document's text is larger than 0 MiB"):
        text_of("a.eml", MAIL)


def test_many_threads_at_once(own: Pool) -> None:
    """There are more threads than workers, and each thread gets the text of its own document."""
    found: dict[int, str] = {}

    def ask(number: int) -> None:
        for _ in range(5):
            found[number] = text_of("a.eml", b"Subject: %d\n\nbroken\n" % number)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(24)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {number: f"Subject: {number}\n\nbroken" for number in range(24)}
    assert len(own._workers) <= max(2, os.cpu_count() or 1)


def test_a_worker_outlives_the_thread_that_asked_for_it(own: Pool) -> None:
    thread = threading.Thread(target=text_of, args=("a.eml", MAIL))
    thread.start()
    thread.join()
    first = worker_of(own)
    assert text_of("a.eml", MAIL) == TEXT
    assert worker_of(own).pid == first.pid


def test_a_fork_starts_its_own_workers() -> None:
    """Two processes that write into one pipe would get each other's texts."""
    text_of("a.eml", MAIL)
    child = os.fork()
    if not child:
        fine = text_of("a.eml", b"Subject: child\n\nbroken\n") == "Subject: child\n\nbroken"
        os._exit(0 if fine else 1)
    assert text_of("a.eml", MAIL) == TEXT
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.mark.usefixtures("own")
def test_a_missing_library_is_no_fault_of_the_document(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", path_without("pypdfium2", tmp_path))
    with pytest.raises(ModuleNotFoundError) as caught:
        text_of("in.pdf", pdf(INVOICE))
    assert caught.value.name == "pypdfium2"
    assert text_of("a.eml", MAIL) == TEXT


@pytest.mark.slow
@pytest.mark.usefixtures("own")
def test_a_worker_that_ends_by_itself_is_no_fault_of_the_document(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "inscriptis.py").write_text("import os\nos._exit(1)\n", "utf-8")
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    with pytest.raises(RuntimeError, match="ended with exit code 1"):
        text_of("a.html", b"<p>hello")
    assert text_of("a.eml", MAIL) == TEXT


ASKING = """
import signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell ignores it for background processes
from tunewright.documents import text_of
from tunewright.documents.pool import POOL
print(text_of("a.eml", b"Subject: lamp"), POOL._idle[0]._process.pid, flush=True)
if sys.argv[1:]:
    text_of("a.json", b"[" + b",".join([b'{"text": "a", "box": [0, 0, 9, 9]}'] * 400_000) + b"]")
time.sleep(60)
"""


@pytest.mark.slow
@pytest.mark.parametrize("busy", [False, True])
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_no_worker_outlives_its_parent(how: signal.Signals, busy: bool) -> None:
    asking = subprocess.Popen(
        [sys.executable, "-c", ASKING, *["busy"] * busy],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=os.environ | {"PYTHONPATH": SOURCE},
        process_group=0,
    )
    assert asking.stdout
    worker = int(asking.stdout.readline().split()[-1])
    assert runs(worker)
    # As a terminal does it, Ctrl-C reaches both.
    (os.killpg if how == signal.SIGINT else os.kill)(asking.pid, how)
    asking.wait(60)
    assert eventually(lambda: not runs(worker))


def test_a_process_that_ends_leaves_no_worker() -> None:
    done = python("-W", "error", "-c", ASKING.replace("time.sleep(60)", ""), PYTHONPATH=SOURCE)
    assert (done.returncode, done.stderr) == (0, "")
    assert eventually(lambda: not runs(int(done.stdout.split()[-1])))
