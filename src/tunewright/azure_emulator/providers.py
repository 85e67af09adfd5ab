"""Resource providers: calls under a provider are refused until somebody registers the subscription for it."""

from __future__ import annotations

import re
from typing import Any

from tunewright.azure_emulator.cloud import HttpRequest, HttpResponse, error

ALWAYS = ("Microsoft.Authorization", "Microsoft.Resources", "Microsoft.Consumption")
"""The providers that every subscription is registered for, as far as the emulator gets calls under them."""
BY_AZD = (
    "Microsoft.MachineLearningServices",
    "Microsoft.Storage",
    "Microsoft.KeyVault",
    "Microsoft.ContainerRegistry",
    "Microsoft.ManagedIdentity",
    "Microsoft.Insights",
    "Microsoft.OperationalInsights",
)
"""The providers of the resources in `infra/`: deploying a template registers them."""
SEASONED = ("Microsoft.App", "Microsoft.ContainerService", "Microsoft.Compute", "Microsoft.Quota")
_WORKS = 2
"""How often a provider still reports that it is registering."""


class Providers:
    """Answers about providers, and refusals of calls under one that is not registered."""

    def __init__(self, *, seasoned: bool):
        self.registered = set(ALWAYS + BY_AZD + (SEASONED if seasoned else ()))
        self._registering: dict[str, int] = {}
        self.hooks = [
            ("GET", r"^/subscriptions/[^/]+/providers/[^/]+$", self._shown),
            ("POST", r"^/subscriptions/[^/]+/providers/[^/]+/register$", self._register),
        ]

    def refusal(self, path: str) -> HttpResponse | None:
        """The refusal of a call whose provider is not registered (rule unregistered)."""
        match = re.search(r"/providers/([^/]+)/(?!register$)", path[path.rfind("/providers/") :], re.I)
        if match is None or self._knows(match[1]):
            return None
        message = (
            f"The subscription is not registered to use namespace '{match[1]}'. See https://aka.ms/rps-not-found for "
            "how to register subscriptions."
        )
        details: list[dict[str, Any]] = [
            {"code": "MissingSubscriptionRegistration", "message": message, "target": match[1]}
        ]
        refused = {"code": "MissingSubscriptionRegistration", "message": message, "details": details}
        return HttpResponse(409, {"error": refused}, error(409, "MissingSubscriptionRegistration", message).headers)

    def _knows(self, provider: str) -> bool:
        return provider.lower() in map(str.lower, self.registered)

    def _shown(self, request: HttpRequest, path: str) -> HttpResponse:  # noqa: ARG002
        name = path.rpartition("/")[2]
        left = self._registering.get(name.lower(), -1)
        if left > 0:
            self._registering[name.lower()] = left - 1
        elif left == 0:
            del self._registering[name.lower()]
            self.registered.add(name)
        state = "Registering" if left > 0 else "Registered" if self._knows(name) else "NotRegistered"
        return HttpResponse(
            body={
                "id": path,
                "namespace": name,
                "registrationState": state,
                "registrationPolicy": "RegistrationRequired",
            }
        )

    def _register(self, request: HttpRequest, path: str) -> HttpResponse:
        provider = path.removesuffix("/register")
        if not self._knows(provider.rpartition("/")[2]):
            self._registering[provider.rpartition("/")[2].lower()] = _WORKS
        return self._shown(request, provider)
