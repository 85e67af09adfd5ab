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
            help="A bundle, a project whose champion or latest is served, or a folder of adapters.",
            envvar="TUNEWRIGHT_BUNDLE",
        ),
    ],
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 takes any free one.")] = 8080,
    engine: Annotated[
        Literal["onnxruntime", "openvino", "linear", "vllm"] | None,
        typer.Option(help="What the bundle must run in. (default: what it was exported for, by export.runtime)"),
    ] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads. (default: all cores)")] = None,
    keys: Annotated[
        Path | None, typer.Option(help="Only those may ask who have a key in this file: tunewright keys add")
    ] = None,
    identity: Annotated[
        Path | None,
        typer.Option(help="Those may ask who sign in with the OpenID Connect provider that this file names."),
    ] = None,
    most: Annotated[
        int, typer.Option("--limit-concurrency", min=1, help="Requests under way; further ones are told to come again.")
    ] = 64,
    seconds: Annotated[
        float, typer.Option("--timeout", min=1, help="Seconds in which a request must be answered.")
    ] = 120,
    captures: Annotated[
        Path | None, typer.Option(help="Keep questions, answers and feedback in this folder. (default: nowhere)")
    ] = None,
    capture_share: Annotated[
        float, typer.Option(min=1e-6, max=1, help="Of the questions so large a share is kept, chosen at random.")
    ] = 1.0,
    redact: Annotated[
        bool, typer.Option("--redact", help="Replace personal data in what is kept by its kind: [EMAIL].")
    ] = False,
    verify: VerifyOption = "on",
    pin: Annotated[
        str, typer.Option(help="Serve only the bundle with this digest, which export printed.", envvar="TUNEWRIGHT_PIN")
    ] = "",
) -> None:
    """Serve a bundle through an OpenAI-compatible API. Of a project, what runs/serving.json names, and what it names
    later, or else the latest bundle, which SIGHUP loads anew."""
    from tunewright.api import traffic_of
    from tunewright.inference.checksums import Verification
    from tunewright.project import Project
    from tunewright.serving.server import Limits
    from tunewright.serving.server import serve as serve_bundle

    with suppress(KeyboardInterrupt):  # Ctrl-C is how a server is meant to end
        asked = Verification(verify == "on", pin)
        limits = Limits(keys, identity, most, seconds, captures, engine, capture_share, redact, asked)
        runs = Project(bundle).runs if Project.is_one(bundle) else None
        serve_bundle(lambda: traffic_of(bundle), host, port, threads, limits, runs)
