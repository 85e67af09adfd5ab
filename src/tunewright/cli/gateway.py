"""`tunewright gateway`: the server between applications and the APIs that they pay for."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from tunewright.cli.options import print_json, with_default

app = typer.Typer(
    cls=with_default("run"),
    help="Run the gateway between your applications and the APIs that they pay for: tunewright gateway gateway.yaml",
    no_args_is_help=True,
)


@app.command("run")
def run(
    file: Annotated[Path, typer.Argument(help="The gateway's settings.", envvar="TUNEWRIGHT_GATEWAY")],
    host: Annotated[str, typer.Option(help="Address to listen on.", envvar="TUNEWRIGHT_GATEWAY_HOST")] = "127.0.0.1",
    port: Annotated[
        int,
        typer.Option(
            min=0, max=65535, help="Port to listen on; 0 takes any free one.", envvar="TUNEWRIGHT_GATEWAY_PORT"
        ),
    ] = 8081,
) -> None:
    """Pass requests to the upstreams of a file, and capture what it says. `run` may be left out.

    Applications change their base_url to this server's, with /v1 behind it, and nothing else."""
    from tunewright.gateway.server import serve_gateway

    with suppress(KeyboardInterrupt):  # Ctrl-C is the normal end of a server
        serve_gateway(file, host, port)


@app.command("schema")
def schema() -> None:
    """Print the JSON Schema of gateway.yaml."""
    from tunewright.gateway.config import GatewaySpec

    print_json(GatewaySpec.model_json_schema())
