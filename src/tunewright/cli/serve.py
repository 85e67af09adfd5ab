"""`tunewright serve`: answer requests from a bundle."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Annotated, Literal

import typer

from tunewright.cli.options import VerifyOption


def serve(
    bundle: Annotated[
        Path,
        typer.Argument(
            help="A bundle, a project whose champion or latest bundle to serve, or a folder of adapters.",
            envvar="TUNEWRIGHT_BUNDLE",
        ),
    ],
    host: Annotated[str, typer.Option(help="Address to listen on.", envvar="TUNEWRIGHT_SERVE_HOST")] = "127.0.0.1",
    port: Annotated[
        int,
        typer.Option(min=0, max=65535, help="Port to listen on; 0 takes any free one.", envvar="TUNEWRIGHT_SERVE_PORT"),
    ] = 8080,
    engine: Annotated[
        Literal["onnxruntime", "openvino", "linear", "vllm"] | None,
        typer.Option(
            help="The runtime that the bundle must have. (default: any; export.runtime chose it)",
            envvar="TUNEWRIGHT_SERVE_ENGINE",
        ),
    ] = None,
    threads: Annotated[
        int | None,
        typer.Option(min=1, help="CPU threads. (default: all cores)", envvar="TUNEWRIGHT_SERVE_THREADS"),
    ] = None,
    keys: Annotated[
        Path | None,
        typer.Option(help="Clients need a key of this file (tunewright keys add).", envvar="TUNEWRIGHT_SERVE_KEYS"),
    ] = None,
    identity: Annotated[
        Path | None,
        typer.Option(
            help="Clients sign in with the OpenID Connect provider of this file.", envvar="TUNEWRIGHT_SERVE_IDENTITY"
        ),
    ] = None,
    limit_concurrency: Annotated[
        int,
        typer.Option(
            "--limit-concurrency",
            min=1,
            help="The most requests at a time; more get status 429.",
            envvar="TUNEWRIGHT_SERVE_LIMIT_CONCURRENCY",
        ),
    ] = 64,
    timeout: Annotated[
        float,
        typer.Option(
            "--timeout", min=1, help="Seconds after which a request fails.", envvar="TUNEWRIGHT_SERVE_TIMEOUT"
        ),
    ] = 120,
    captures: Annotated[
        Path | None,
        typer.Option(
            help="Keep questions, answers and feedback in this folder. (default: keep nothing)",
            envvar="TUNEWRIGHT_SERVE_CAPTURES",
        ),
    ] = None,
    capture_share: Annotated[
        float,
        typer.Option(
            min=1e-6,
            max=1,
            help="The share of questions to keep, drawn at random.",
            envvar="TUNEWRIGHT_SERVE_CAPTURE_SHARE",
        ),
    ] = 1.0,
    redact: Annotated[
        bool,
        typer.Option(
            "--redact",
            help="Replace personal data in captures by its kind, such as [EMAIL].",
            envvar="TUNEWRIGHT_SERVE_REDACT",
        ),
    ] = False,
    any_system_prompt: Annotated[
        bool,
        typer.Option(
            "--any-system-prompt",
            help="Leave out clients' system prompts that are of another job, in place of refusing them.",
            envvar="TUNEWRIGHT_SERVE_ANY_SYSTEM_PROMPT",
        ),
    ] = False,
    verify: VerifyOption = "on",
    pin: Annotated[
        str,
        typer.Option(help="Serve only the bundle with this digest, which export prints.", envvar="TUNEWRIGHT_PIN"),
    ] = "",
) -> None:
    """Serve a bundle through an OpenAI-compatible API.

    For a project the server follows runs/serving.json. Without that file it serves the latest bundle, and SIGHUP makes
    it load a newer one."""
    from tunewright.inference.checksums import Verification
    from tunewright.project import Project
    from tunewright.serving.served import traffic_of
    from tunewright.serving.server import Limits
    from tunewright.serving.server import serve as serve_bundle

    with suppress(KeyboardInterrupt):  # Ctrl-C is the normal end of a server
        verification = Verification(verify == "on", pin)
        limits = Limits(
            keys,
            identity,
            limit_concurrency,
            timeout,
            captures,
            engine,
            capture_share,
            redact,
            verification,
            any_system_prompt,
        )
        runs = Project(bundle).runs if Project.is_one(bundle) else None
        serve_bundle(lambda: traffic_of(bundle), host, port, threads, limits, runs)
