"""The server's HTTP routes: a `RouteTable` a module, over the shared state of `tunewright.serving.routes.state`."""

from __future__ import annotations

from tunewright.serving.routes import chat, health, monitoring, plain

ENDPOINTS = tuple(endpoint for module in (health, plain, chat, monitoring) for endpoint in module.ROUTES.endpoints)
