"""The documentation site is built without a warning, needs no other host, and is refused with a broken link."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY
from tests.docs.test_commands import REFERENCE
from tunewright import __all__ as public

pytestmark = pytest.mark.slow
BROKEN = {
    "[page](nowhere.md)": "contains a link 'nowhere.md', but the target is not found",
    "[part](serving.md#nowhere)": "contains a link 'serving.md#nowhere', but the doc 'serving.md' does not contain",
    "[file](../src/nowhere.py)": "links to ../src/nowhere.py, and the repository has no such file",
    "[root](/serving.md)": "contains an absolute link '/serving.md'",
    "![picture](nowhere.png)": "contains a link 'nowhere.png', but the target is not found",
}


def build(repository: Path, site: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(site)],
        cwd=repository,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    done = build(REPOSITORY, folder)
    assert done.returncode == 0, done.stderr
    return folder


def test_every_page_is_built(site: Path) -> None:
    pages = {page.relative_to(REPOSITORY / "docs").with_suffix("") for page in (REPOSITORY / "docs").rglob("*.md")}
    pages |= {Path(name).with_suffix("") for name in REFERENCE.PAGES}
    assert pages <= {page.relative_to(site).with_suffix("") for page in site.rglob("*.html")}


def test_nothing_is_loaded_from_another_host(site: Path) -> None:
    for page in site.rglob("*.html"):
        loaded = re.findall(
            r"<(?:script|link|img|iframe)\b[^>]*(?:src|href)=\"?(https?:[^\"\s>]+)", page.read_text("utf-8")
        )
        assert not loaded, page.name


def test_markdown_is_read_as_github_reads_it(site: Path) -> None:
    """What a list holds is set in by four spaces, or it is shown as it is written."""
    for page in site.rglob("*.html"):
        for paragraph in re.findall(r"<p>(.*?)</p>", page.read_text("utf-8"), re.DOTALL):
            plain = re.sub(r"<code>.*?</code>", "", paragraph, flags=re.DOTALL)
            assert not re.search(r"^\s*(\||[-*] |\d+\. )|```", plain, re.MULTILINE), plain


def test_a_diagram_comes_with_what_draws_it(site: Path) -> None:
    page = (site / "architecture.html").read_text("utf-8")
    assert 'class="mermaid"' in page
    (script,) = re.findall(r'<script src="([^"]*mermaid[^"]*)"', page)
    assert (site / script).is_file()
    assert "mermaid.tiny.js" not in (site / "gpu.html").read_text("utf-8")


def test_links_to_the_repository_lead_there(site: Path) -> None:
    assert "https://github.com/tunewright/tunewright/blob/main/action.yml" in (site / "pipelines.html").read_text(
        "utf-8"
    )


def test_the_reference_has_every_key_command_and_function(site: Path) -> None:
    spec, cli, python = (REFERENCE.PAGES[f"reference/{name}.md"]() for name in ("spec", "cli", "python"))
    keys = {key for key in REFERENCE.spec_keys() if not key.startswith(("task.", "apis."))}
    assert not [key for key in keys if f'"{key}"' not in spec and f"#{key}" not in spec]
    for command, it in REFERENCE.commands().items():
        options = [name for each in it.params for name in each.opts if name.startswith("-")]
        assert f"`{command}`" in cli
        assert not [name for name in options if f"`{name}`" not in cli]
    page = (site / "reference" / "python.html").read_text("utf-8")
    for name in public:
        assert name.startswith("__") or (f"tunewright.{name}" in python and f'id="tunewright.{name}"' in page), name


def test_a_broken_link_or_a_page_outside_the_navigation_fails(tmp_path: Path) -> None:
    for each in REPOSITORY.iterdir():
        if each.name not in ("docs", "mkdocs.yml", "site"):
            (tmp_path / each.name).symlink_to(each)
    shutil.copytree(REPOSITORY / "docs", tmp_path / "docs")
    shutil.copy(REPOSITORY / "mkdocs.yml", tmp_path)
    (tmp_path / "docs" / "broken.md").write_text("# Broken\n\n" + "\n".join(BROKEN), "utf-8")
    done = build(tmp_path, tmp_path / "site")
    assert done.returncode != 0
    assert "broken.md" in done.stderr
    assert 'not included in the "nav" configuration' in done.stderr
    for link, message in BROKEN.items():
        assert message in done.stderr, link
