"""The options that say where steps run, and the rehearsal around a command."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from tunewright.core.errors import UserError

if TYPE_CHECKING:
    from tunewright.api import On
    from tunewright.config import Spec

OnOption = Annotated[str, typer.Option("--on", help="Where steps run: local, or azure for jobs in Azure ML.")]
RehearseOption = Annotated[
    bool, typer.Option("--rehearse", help="Play Azure on this machine: --on azure without a subscription.")
]
_PLACES = ("local", "azure")
_WORKSPACE = "00000000-0000-0000-0000-00000000feed/rehearsal/rehearsal"
_REGION = "eastus"
_PLAYED = {
    "new": "It plays a new subscription after azd up, which has no quota for GPUs. One that was granted everything: "
    "azure.emulate=seasoned",
    "seasoned": "It plays a subscription that was granted quota and providers for everything.",
}


@contextmanager
def placed(spec: Spec, on: str, rehearse: bool) -> Iterator[tuple[Spec, On]]:
    """The spec and the place to go on with, inside of a rehearsal where that was asked for.

    Raises:
        UserError: there is no such place.
    """
    if on not in _PLACES:
        raise UserError(f"There is no place '{on}'.", where="--on", fix=f"Places: {', '.join(_PLACES)}.")
    if not rehearse:
        yield spec, "azure" if on == "azure" else "local"
        return
    from tunewright.azure_emulator import rehearse as play
    from tunewright.core.progress import say
    from tunewright.models.resolve import fetch

    played = spec.azure.emulate
    fetch(spec.model, spec.folder)  # while the network is still there: inside, nothing but the stand-in is
    workspace = spec.azure.workspace or _WORKSPACE
    spec = spec.model_copy(update={"azure": spec.azure.model_copy(update={"workspace": workspace})})
    say(f"Rehearsal: a stand-in for Azure starts on this machine; the network is closed meanwhile. {_PLAYED[played]}")
    region = (spec.azure.region or _REGION).replace(" ", "").lower()
    subscription, group, name = workspace.split("/")
    with play(subscription, group, name, region, seasoned=played == "seasoned") as rehearsal:
        try:
            yield spec, "azure"
        finally:
            for line in rehearsal.bill.lines:
                say(line)
