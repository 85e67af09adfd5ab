"""The server's HTTP routes: an APIRouter a module, over the shared state of `tunewright.serving.routes.state`."""

from __future__ import annotations

from tunewright.serving.routes import chat, health, monitoring, plain

ROUTERS = (health.router, plain.router, chat.router, monitoring.router)
