"""Answering a file: every line once, on all cores or on a Ray cluster, through interruptions.

The input is cut into chunks of lines. A worker answers a chunk and writes it, whole or not at all, into a folder beside
the output. A chunk that is there is not answered again. When all are there, they become the output in the input's
order. A chunk's answers depend on its lines and the bundle alone, so every worker would write the same bytes.

A worker is a process, or this process if it is the only one. It has a core, or several where passes share a model.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from contextvars import copy_context
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO

from pydantic import ValidationError

from tunewright.core.artifacts import sha256_json, sha256_tree, write_json
from tunewright.core.call import CALL, Call
from tunewright.core.errors import UserError
from tunewright.core.limits import BATCH_CHUNK_BYTES, BATCH_LINE_BYTES
from tunewright.core.processes import sole_writer
from tunewright.core.progress import track
from tunewright.core.strict_json import JSON_FAULTS, StrictJson, described
from tunewright.core.workers import CLUSTER, Workers, each, workers_of
from tunewright.inference.bundle import Bundle, load_bundle
from tunewright.inference.predictors import Answer
from tunewright.inference.runtimes.base import is_classifier
from tunewright.models.chat import UnfitText
from tunewright.serving.body import RequestInput
from tunewright.serving.conversations import UnfitMessages, one_input, one_text
from tunewright.serving.engine import Engine, TooLong, answer_fields
from tunewright.serving.errors import ApiError
from tunewright.serving.requests import ChatRequest
from tunewright.serving.tools import narrowed_schema, require_own_schema, require_own_tools
from tunewright.tasks.base import FreeText
from tunewright.tasks.input_form import InputForm

CHUNK = 500
"""Lines in a chunk: a killed worker loses this many at most."""
_SMALL_CHUNK = 100
"""The same where each worker answers one line after the other: at the end all but one wait for the last chunk."""
_SHARED_FROM = 1 << 30
"""Bytes of weights above which a machine has one worker, with all of its cores."""
_CHUNKS_A_CALL, _CALLS = 5, 4
"""Chunks that a worker of several cores gets at a time, because its cores wait for the last lines of the last one, and
the calls that each worker should get."""
_MOST_STREAMS = 2
"""Cores of a worker with a language model in OpenVINO or our own kernels. They start once and share the weights, but
also Python's lock: with short texts each forward pass takes 14 % longer then (bench/batch.py; docs/serving.md)."""
_JOB = "job.json"
_MACHINE_ERRORS = (UserError, OSError, MemoryError, ImportError)
"""Errors that no line causes: they end the batch, and the same command resumes it."""


@dataclass(frozen=True)
class Batch:
    """The result of answering a file."""

    lines: int
    refused: int
    """Lines that got an error instead of an answer."""
    kept: int
    """Lines that an earlier, interrupted run had answered."""
    seconds: float

    @property
    def per_second(self) -> float:
        """Lines that this run answered, a second."""
        return (self.lines - self.kept) / self.seconds if self.seconds else 0.0


def answer_file(bundle: Path, source: Path, target: Path, chunk: int | None = None) -> Batch:
    """Answer every line of a JSON Lines file, in order.

    A line is an object with `text` (or `document`, as the server takes it), or one of OpenAI's batches, with
    `custom_id` and `body.messages`. A line of the output has the `id` or `custom_id` of its input, else its `line`, and
    the answer with its confidence, or `error`.

    Args:
        target: must not exist; `target.parts` beside it holds the chunks that are done.
        chunk: lines that one worker answers at a time; by default as many as the bundle is best asked for.

    Raises:
        UserError: the source does not exist, the target does, or `target.parts` belongs to another file or bundle.
    """
    if not source.is_file():
        raise UserError("There is no such file.", where=source, fix="Give a JSON Lines file, a request a line.")
    if target.exists():
        raise UserError("The output is there already.", where=target, fix="Move it away, or name another file.")
    loaded = load_bundle(bundle)
    bundle, source = bundle.resolve(), source.resolve()  # workers may start elsewhere
    started = time.monotonic()
    chunk = chunk or _lines_of_a_chunk(loaded)
    chunks, lines = _chunks(source, chunk)
    parts = target.resolve().with_name(f"{target.name}.parts")
    parts.mkdir(parents=True, exist_ok=True)
    with sole_writer(parts):
        _check_job(parts, bundle, source, chunk)
        left = [one for one in chunks if not _part(parts, one.number).exists()]
        kept = lines - sum(one.lines for one in left)
        answered = _answered(loaded, bundle, source, parts, left)
        with track("batch", lines, "lines") as tracker:
            tracker.update(done := kept)
            for count in answered:
                tracker.update(done := done + count)
        refused = _join(parts, chunks, target)
        shutil.rmtree(parts)
    return Batch(lines, refused, kept, time.monotonic() - started)


def _lines_of_a_chunk(bundle: Bundle) -> int:
    """It depends on the bundle alone, so a batch that goes on elsewhere has the same chunks."""
    together = is_classifier(bundle.info.runtime) or _on_gpu(bundle) or bundle.weight_bytes > _SHARED_FROM
    return CHUNK if together else _SMALL_CHUNK


def _workers(bundle: Bundle) -> Workers:
    """The workers for a bundle. Their cores have a pass each where the runtime can run several."""
    if bundle.weight_bytes > _SHARED_FROM and not _on_gpu(bundle):
        return workers_of(sys.maxsize)
    return workers_of(_MOST_STREAMS if _has_streams(bundle) else 1)


def _has_streams(bundle: Bundle) -> bool:
    return bundle.info.runtime.startswith("openvino") and not is_classifier(bundle.info.runtime)


def _answered(loaded: Bundle, bundle: Path, source: Path, parts: Path, left: Sequence[_Chunk]) -> Iterator[int]:
    """Answer chunks in this process, or with many workers; yields numbers of lines."""
    workers = _workers(loaded)
    if not os.environ.get(CLUSTER) and (workers.count == 1 or _on_gpu(loaded) or len(left) < 2):
        yield from _answer_chunks(bundle, source, parts, left, workers.cores)
        return
    size = 1 if workers.cores == 1 else max(1, min(_CHUNKS_A_CALL, len(left) // (_CALLS * workers.count)))
    calls = [(bundle, source, parts, left[at : at + size], workers.cores) for at in range(0, len(left), size)]
    yield from each(_answer_call, calls, cpus=workers.cores, gpus=int(_on_gpu(loaded)))


def _on_gpu(bundle: Bundle) -> bool:
    return bundle.info.runtime.startswith("vllm")


@dataclass(frozen=True)
class _Chunk:
    number: int
    start: int
    """The offset of its first byte."""
    first: int
    """The number of its first line, from 1."""
    lines: int


def _chunks(source: Path, most: int) -> tuple[list[_Chunk], int]:
    """(the chunks of a file, how many lines it has)."""
    chunks: list[_Chunk] = []
    start = offset = first = count = 0
    with source.open("rb") as stream:
        for number, size in enumerate(_sizes(stream), 1):
            if count == most or (count and offset + size - start > BATCH_CHUNK_BYTES):
                chunks.append(_Chunk(len(chunks), start, first, count))
                count = 0
            if not count:
                start, first = offset, number
            offset += size
            count += 1
    if count:
        chunks.append(_Chunk(len(chunks), start, first, count))
    return chunks, sum(chunk.lines for chunk in chunks)


def _sizes(stream: BinaryIO) -> Iterator[int]:
    """The size of each line in bytes, however long it is."""
    size = 0
    while part := stream.readline(BATCH_LINE_BYTES):
        size += len(part)
        if part.endswith(b"\n"):
            yield size
            size = 0
    if size:
        yield size


def _check_job(parts: Path, bundle: Path, source: Path, chunk: int) -> None:
    """Note the input and the bundle of the parts.

    Raises:
        UserError: the parts belong to another input or bundle.
    """
    stat = source.stat()
    cut = [chunk, BATCH_CHUNK_BYTES]
    job = {"bundle": sha256_tree(bundle)[0], "input": sha256_json([stat.st_size, stat.st_mtime_ns]), "chunk": cut}
    file = parts / _JOB
    if not file.exists():
        write_json(file, job)
    elif json.loads(file.read_text("utf-8")) != job:
        raise UserError(
            "This folder of an earlier batch belongs to another input or bundle.",
            where=parts,
            fix="Remove that folder, or name another output.",
        )


def _part(parts: Path, number: int) -> Path:
    return parts / f"{number:07}.jsonl"


def _answer_call(bundle: Path, source: Path, parts: Path, chunks: Sequence[_Chunk], streams: int) -> int:
    """As `_answer_chunks`, in a process of its own; returns the number of lines."""
    return sum(_answer_chunks(bundle, source, parts, chunks, streams))


def _answer_chunks(bundle: Path, source: Path, parts: Path, chunks: Sequence[_Chunk], streams: int) -> Iterator[int]:
    """Answer chunks, write each, and yield its number of lines.

    Args:
        streams: passes that run at once, each with a core.
    """
    if not chunks:
        return
    engine = _engine(bundle, streams)
    with closing(_in_turn(engine, (list(_lines(source, chunk)) for chunk in chunks))) as answered:
        for chunk, answers in zip(chunks, answered, strict=True):
            target = _part(parts, chunk.number)
            fresh = target.with_name(f".{target.name}.{os.getpid()}")
            with fresh.open("w", encoding="utf-8") as stream:
                for answer in answers:
                    stream.write(json.dumps(answer, ensure_ascii=False) + "\n")
                stream.flush()
                os.fsync(stream.fileno())
            fresh.replace(target)
            yield chunk.lines


def _lines(source: Path, chunk: _Chunk) -> Iterator[tuple[int, bytes]]:
    with source.open("rb") as stream:
        stream.seek(chunk.start)
        for number in range(chunk.first, chunk.first + chunk.lines):
            yield number, (line := stream.readline(BATCH_LINE_BYTES + 1))
            while len(line) > BATCH_LINE_BYTES and not line.endswith(b"\n"):
                line = stream.readline(BATCH_LINE_BYTES + 1)


@lru_cache(maxsize=1)
def _engine(bundle: Path, streams: int) -> Engine:
    """The engine of a worker. Parallel passes have one thread each: they do more than threads that wait for each other,
    and sums are the same on every machine."""
    loaded = load_bundle(bundle)
    return Engine.load(loaded, 1 if _has_streams(loaded) else streams, streams)


def answer_lines(engine: Engine, lines: Sequence[tuple[int, bytes]]) -> list[dict[str, Any]]:
    """The output for some lines of the input, each with its number."""
    (answers,) = _in_turn(engine, [lines])
    return answers


def _in_turn(
    engine: Engine, chunks: Iterable[Sequence[tuple[int, bytes]]]
) -> Generator[list[dict[str, Any]], None, None]:
    """The output for the lines of each chunk. A language model begins the next chunk before the last lines of one are
    answered, so that no core waits for them."""
    ahead = 0 if engine.together else 1
    begun: deque[tuple[list[_Question | dict[str, Any]], _Wait]] = deque()
    with _asking(engine) as ask:
        for lines in chunks:
            read = [_question(number, line, engine.bundle) for number, line in lines]
            begun.append((read, ask([each.text for each in read if isinstance(each, _Question)])))
            if len(begun) > ahead:
                yield _outputs(engine, *begun.popleft())
        for read, wait in begun:
            yield _outputs(engine, read, wait)


def _outputs(engine: Engine, read: Sequence[_Question | dict[str, Any]], wait: _Wait) -> list[dict[str, Any]]:
    answers = iter(wait())
    return [_output(engine, each, next(answers)) if isinstance(each, _Question) else each for each in read]


@contextmanager
def _asking(engine: Engine) -> Iterator[Callable[[Sequence[str]], _Wait]]:
    """A function that begins to answer texts, and gives one that waits for the answers. If the block ends early, the
    answers that are being written stop."""
    if engine.together:
        yield lambda texts: lambda: _answers(engine, texts)
        return
    call, context = Call(threading.TIMEOUT_MAX), copy_context()
    context.run(CALL.set, call)
    clients = ThreadPoolExecutor(engine.at_once)

    def ask(texts: Sequence[str]) -> _Wait:
        futures = [clients.submit(context.copy().run, _answer, engine, text) for text in texts]
        return lambda: _not_all_broken(engine, [each.result() for each in futures])

    try:
        yield ask
    finally:
        call.gone.set()
        clients.shutdown(cancel_futures=True)


def _answers(engine: Engine, texts: Sequence[str]) -> Sequence[Answer | TooLong | _Broken]:
    """The answer to each text, or the reason why it has none, of a model that answers them together. Raises what
    `_not_all_broken` raises."""
    try:
        return engine.answers(texts)
    except UnfitText:  # for the second model of a cascade
        return [_answer(engine, text) for text in texts]
    except _MACHINE_ERRORS:
        raise
    except Exception:  # noqa: BLE001 (whatever it is, the other lines are answered)
        return _not_all_broken(engine, [_answer(engine, text) for text in texts])


def _not_all_broken(
    engine: Engine, answers: Sequence[Answer | TooLong | _Broken]
) -> Sequence[Answer | TooLong | _Broken]:
    """The answers, if the engine still answers any text.

    Raises:
        Exception: it does not, or the machine is at fault.
    """
    if answers and all(isinstance(each, _Broken) for each in answers):
        engine.answer("warm-up")
    return answers


@dataclass(frozen=True)
class _Broken:
    """The engine fails at a text, or can't take it."""

    reason: str
    code: str = "internal_error"


_Wait = Callable[[], Sequence[Answer | TooLong | _Broken]]
"""Waits for answers."""


def _answer(engine: Engine, text: str) -> Answer | TooLong | _Broken:
    try:
        return engine.answer(text)
    except TooLong as error:
        return error
    except UnfitText as error:
        return _Broken(error.what, "invalid_value")
    except _MACHINE_ERRORS:
        raise
    except Exception as error:  # noqa: BLE001 (whatever it is, the other lines are answered)
        return _Broken(f"The model fails at this text: {type(error).__name__}.")


@dataclass(frozen=True)
class _Question:
    """A line that can be answered."""

    name: dict[str, Any]
    """The fields that name the line in the output: its ids, or its number."""
    text: str
    most_tokens: int | None = None
    """Tokens that a written text may have; None: as many as the model writes."""


class _BatchRequest(ChatRequest):
    """The body of a line in OpenAI's format. It need not name the model, because a batch has one."""

    model: str = ""


def _question(number: int, line: bytes, bundle: Bundle) -> _Question | dict[str, Any]:
    """A line's question, or the line of the output where it can't be answered."""
    if len(line) > BATCH_LINE_BYTES:
        reason = f"The line is longer than {BATCH_LINE_BYTES >> 20} MiB."
        return _refused({"line": number}, "invalid_json", reason)
    try:
        row, _ = StrictJson().read(line.decode("utf-8-sig" if number == 1 else "utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError):
        return _refused({"line": number}, "invalid_json", "The line is not JSON.")
    except JSON_FAULTS as error:
        refusal = described(error, "The line", "Write it again.")
        return _refused({"line": number}, "invalid_json", refusal.reason)
    if not isinstance(row, dict):
        return _refused({"line": number}, "invalid_json", "The line is no JSON object.")
    name = {key: row[key] for key in ("id", "custom_id") if key in row} or {"line": number}
    try:
        if "body" in row:
            return _asked(name, _BatchRequest.model_validate(row["body"]), bundle)
        given = RequestInput.model_validate({key: row[key] for key in ("text", "document") if key in row})
        return _Question(name, one_input(given.read(), InputForm.of(bundle.info.task)))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        reason = (f"{place}: " if place else "") + str(first["msg"]).removeprefix("Value error, ")
        return _refused(name, "invalid_value", reason)
    except (UnfitMessages, ApiError) as error:
        return _refused(name, "invalid_value", str(error))
    except UserError as error:
        return _refused(name, "invalid_document", error.paragraph())
    except _MACHINE_ERRORS:
        raise
    except Exception as error:  # noqa: BLE001 (of libraries that read documents; the other lines are answered)
        return _refused(name, "invalid_document", f"The document can't be read: {type(error).__name__}.")


def _output(engine: Engine, question: _Question, answer: Answer | TooLong | _Broken) -> dict[str, Any]:
    name, most = question.name, question.most_tokens
    if isinstance(answer, _Broken):
        return _refused(name, answer.code, answer.reason)
    if isinstance(answer, TooLong):
        return _refused(name, "context_length_exceeded", answer.paragraph())
    if most is not None and answer.answer_tokens > most:
        reason = f"The answer has {answer.answer_tokens} tokens, the line allows {most}; a batch cuts no answer."
        return _refused(name, "answer_too_long", reason)
    return {**name, **answer_fields(engine.kind, answer), **engine.bundle.flags(answer.confidence)}


def _asked(name: dict[str, Any], request: _BatchRequest, bundle: Bundle) -> _Question:
    """The question of a line in OpenAI's format.

    Raises:
        UnfitMessages: as in `one_text`.
        ApiError: it asks for what the server refuses, or what only the server can do.
    """
    rule, config = bundle.task.constraint, request.generation_config
    require_own_schema(rule, config.schema)
    require_own_tools(rule, request)
    writes = isinstance(rule, FreeText)
    if narrowed_schema(rule, request.tool_choice) is not None or (writes and (config.stop or config.schema)):
        what = "stop and response_format" if writes else "tool_choice"
        raise ApiError(400, f"A batch answers as the model was trained; leave {what} away.", "invalid_value")
    text = RequestInput(text=one_text(request.messages, bundle.info)).read()
    return _Question(name, text, config.max_tokens if writes else None)


def _refused(name: dict[str, Any], code: str, message: str) -> dict[str, Any]:
    return {**name, "error": {"code": code, "message": message}}


def _join(parts: Path, chunks: Sequence[_Chunk], target: Path) -> int:
    """Join the parts to one file. Returns how many of its lines are errors."""
    fresh, refused = parts / ".joined", 0  # not the target's name, which may be that of a part
    with fresh.open("wb") as stream:
        for chunk in chunks:
            content = _part(parts, chunk.number).read_bytes()
            refused += sum(b'"error"' in line and "error" in json.loads(line) for line in content.split(b"\n"))
            stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())
    fresh.replace(target)
    return refused
