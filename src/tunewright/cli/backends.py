"""The options that choose where steps run, and the emulator around a command."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from tunewright.core.errors import UserError

if TYPE_CHECKING:
    from tunewright.api import On
    from tunewright.config import Spec

OnOption = Annotated[str, typer.Option("--on", help="The backend that runs the steps: local, or azure for Azure ML.")]
EmulateOption = Annotated[
    bool, typer.Option("--emulate", help="Emulate Azure on this machine, without a subscription.")
]
_BACKENDS = ("local", "azure")
_WORKSPACE = "00000000-0000-0000-0000-00000000feed/emulator/emulator"
_REGION = "eastus"
_PLAYED = {
    "new": "The emulator plays a new subscription after azd up, without quota for GPUs. For one with quota and "
    "providers for everything: azure.emulate=seasoned",
    "seasoned": "The emulator plays a subscription with quota and providers for everything.",
}


@contextmanager
def placed(spec: Spec, on: str, emulate: bool) -> Iterator[tuple[Spec, On]]:
    """The spec and the backend for the steps, inside the emulator if `emulate` is set.

    Raises:
        UserError: there is no such backend.
    """
    if on not in _BACKENDS:
        raise UserError(f"There is no backend '{on}'.", where="--on", fix=f"Backends: {', '.join(_BACKENDS)}.")
    if not emulate:
        yield spec, "azure" if on == "azure" else "local"
        return
    from tunewright.azure_emulator import emulated_azure
    from tunewright.core.progress import say
    from tunewright.models.resolve import fetch

    played = spec.azure.emulate
    fetch(spec.model, spec.folder)  # the emulator closes the network, so fetch before
    workspace = spec.azure.workspace or _WORKSPACE
    spec = spec.model_copy(update={"azure": spec.azure.model_copy(update={"workspace": workspace})})
    say(f"Azure is emulated on this machine, and the network is closed meanwhile. {_PLAYED[played]}")
    region = (spec.azure.region or _REGION).replace(" ", "").lower()
    subscription, group, name = workspace.split("/")
    with emulated_azure(subscription, group, name, region, seasoned=played == "seasoned") as emulator:
        try:
            yield spec, "azure"
        finally:
            for line in emulator.bill.lines:
                say(line)
