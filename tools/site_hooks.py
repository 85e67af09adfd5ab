"""What the documentation site needs beside mkdocs: links to the repository, the generated reference, mermaid.

mkdocs calls the functions by their names (`hooks` in mkdocs.yml).
"""

from __future__ import annotations

import logging
import os
import posixpath
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reference import PAGES

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

_log = logging.getLogger("mkdocs.hooks.site")  # under --strict a warning of this logger fails the build
_FENCE = re.compile(r"^([ \t]*)(```|~~~).*?^\1\2[ \t]*$", re.DOTALL | re.MULTILINE)
_OUTSIDE = re.compile(r"(?<=\]\()(\.\./[^)\s#]+)(#[^)\s]*)?(?=\))")
_MERMAID = "assets/vendor/mermaid/mermaid.tiny.js"
_WORKER = "assets/vendor/iframe-worker/shim.js"
_WORKER_ELSEWHERE = "https://unpkg.com/iframe-worker/shim"
"""Where the theme gets the script from with which pages that no server sends can be searched."""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are made from the code."""
    from mkdocs.structure.files import File

    for name, made in PAGES.items():
        files.append(File.generated(config, name, content=made()))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, **_: Any) -> str:
    """Turn links to files of the repository outside docs/ into the repository's address."""
    docs = Path(config.docs_dir)
    here = posixpath.dirname(page.file.src_uri)

    def replaced(link: re.Match[str]) -> str:
        inside = posixpath.normpath(posixpath.join(here, link[1]))
        if not inside.startswith("../"):
            return link[0]  # a page of the site: mkdocs checks it
        path = docs / inside
        if not path.exists():
            _log.warning("%s links to %s, and the repository has no such file.", page.file.src_uri, link[1])
            return link[0]
        name = os.path.relpath(path, docs.parent).replace(os.sep, "/")
        kind = "tree" if path.is_dir() else "blob"
        return f"{config.extra['repository']}/{kind}/main/{name}{link[2] or ''}"

    parts, end = [], 0
    for fence in _FENCE.finditer(markdown):
        parts += [_OUTSIDE.sub(replaced, markdown[end : fence.start()]), fence[0]]
        end = fence.end()
    return "".join([*parts, _OUTSIDE.sub(replaced, markdown[end:])])


def on_page_content(html: str, **_: Any) -> str:
    """Put each diagram into a box, which the style sheet makes scroll on a phone."""
    return re.sub(r'<pre class="mermaid">.*?</pre>', r'<div class="diagram">\g<0></div>', html, flags=re.DOTALL)


def on_post_page(output: str, page: Page, **_: Any) -> str:
    """Have pages load scripts from the site itself, and mermaid only where there is a diagram."""
    up = "../" * page.url.count("/")
    output = output.replace(_WORKER_ELSEWHERE, f"{up}{_WORKER}")
    if 'class="mermaid"' in output:
        output = output.replace("</head>", f'<script src="{up}{_MERMAID}"></script></head>', 1)
    return output


def on_post_template(output: str, **_: Any) -> str:
    """The same for the page that a server sends where there is none."""
    return output.replace(_WORKER_ELSEWHERE, f"/{_WORKER}")
