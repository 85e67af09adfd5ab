"""Self-contained HTML pages with one look, light and dark, for every report."""

from __future__ import annotations

from importlib import resources
from typing import Any

LOOK = "look.css"
"""The style sheet of every page, in this package."""


def _usd(amount: float) -> str:
    return f"{'-' if amount < 0 else ''}${abs(amount):,.2f}"


def render(package: str, template: str, context: dict[str, Any]) -> str:
    """Render a template in `package`/templates. In `*.html.jinja` all values are escaped.

    HTML templates extend `page.html.jinja` and fill its blocks `title` and `content`.
    """
    from jinja2 import Environment, FunctionLoader

    def source(name: str) -> str:
        own = name in ("page.html.jinja", LOOK)
        folder = resources.files("tunewright.core.page") if own else resources.files(package) / "templates"
        return (folder / name).read_text("utf-8")

    environment = Environment(
        loader=FunctionLoader(source), autoescape=".html." in template, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"pct": lambda share: f"{100 * share:.1f} %", "usd": _usd}
    return environment.get_template(template).render(context)
