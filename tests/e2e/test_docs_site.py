"""The documentation site: it builds, its links lead somewhere, it fetches nothing, it has no barriers."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

ROOT = Path(__file__).resolve().parents[2]
GROUPS = ("tutorial", "howto", "reference", "explanation")
# no Chromium of ours may talk to anybody
_FLAGS = ("--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking")
_FETCHING = {"link": "href", "script": "src", "img": "src", "iframe": "src", "source": "src"}


class _Links(HTMLParser):
    """The ids, links and fetched things of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.links: list[str] = []
        self.fetched: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.ids.update(v for k in ("id", "name") if (v := given.get(k)))
        if tag == "a" and (to := given.get("href")):
            self.links.append(to)
        relation = given.get("rel") or ""
        if (
            tag in _FETCHING
            and (to := given.get(_FETCHING[tag]))
            and relation not in ("canonical", "next", "prev")
        ):
            self.fetched.append(to)


def read(page: Path) -> _Links:
    parser = _Links()
    parser.feed(page.read_text(encoding="utf-8"))
    return parser


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site; from a copy of the repository's tracked files, so that a test leaves nothing behind."""
    pytest.importorskip("zensical", reason="pip install --group docs")
    copy = tmp_path_factory.mktemp("site") / "repository"
    ignored = shutil.ignore_patterns(".*", "build", "__pycache__", "node_modules")
    shutil.copytree(ROOT, copy, ignore=ignored)
    command = [sys.executable, str(copy / "docs" / "build_site.py")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, "CI": "1"})
    assert done.returncode == 0, done.stdout + done.stderr
    assert "No issues found" in done.stdout + done.stderr, done.stderr
    return copy / "build" / "site"


def test_every_link_leads_somewhere(site: Path) -> None:
    found = {page: read(page) for page in site.rglob("*.html")}
    assert len(found) > 60
    broken = [
        f"{page.relative_to(site)}: {to}"
        for page, links in found.items()
        for to in _broken(page, links, found)
    ]
    assert broken == []


def _broken(page: Path, links: _Links, every: dict[Path, _Links]) -> Iterator[str]:
    for to in [*links.links, *links.fetched]:
        parts = urlsplit(to)
        # the page of errors is served for any address, so its links start at the root
        if parts.scheme or to.startswith("/") or page.name == "404.html":
            continue
        target = (page.parent / unquote(parts.path)).resolve() if parts.path else page
        if target.is_dir():
            target = target / "index.html"
        ids = every[target].ids if target in every else None
        if not target.is_file() or (
            parts.fragment and ids is not None and unquote(parts.fragment) not in ids
        ):
            yield to


def test_nothing_is_fetched_from_elsewhere(site: Path) -> None:
    for page in site.rglob("*.html"):
        assert [to for to in read(page).fetched if urlsplit(to).scheme not in ("", "data")] == [], page
    for style in site.rglob("*.css"):
        text = style.read_text(encoding="utf-8")
        assert not re.search(r"url\(['\"]?https?:|@import", text), style


def test_the_navigation_names_every_page() -> None:
    """A page that nobody can find is no documentation."""
    text = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    named = set(re.findall(r": (\S+\.md)$", text, re.MULTILINE))
    assert all((ROOT / name).is_file() for name in named)
    pages = {str(p.relative_to(ROOT)) for group in GROUPS for p in (ROOT / "docs" / group).glob("*.md")}
    assert pages - named == set()


def test_comments_for_the_runner_are_not_shown(site: Path) -> None:
    text = (site / "docs" / "howto" / "pytest.html").read_text(encoding="utf-8")
    shown = re.sub(r"<!--.*?-->", "", text, flags=re.DOTALL)
    assert "four.npz" in shown and "re.findall" not in shown


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    pytest.importorskip("axe_playwright_python", reason="pip install --group browser")
    api = pytest.importorskip("playwright.sync_api", reason="pip install --group browser")
    names = ("chromium", "chromium-browser", "google-chrome", "chrome")
    path = os.environ.get("SUREBOUND_CHROMIUM") or next(filter(None, map(shutil.which, names)), None)
    if path is None:
        pytest.skip("no Chromium: install one, or set SUREBOUND_CHROMIUM")
    with api.sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=path, args=list(_FLAGS))
        yield found
        found.close()


CHECKED = (
    "index.html",
    "docs/tutorial/first-proof.html",
    "docs/howto/pytest.html",
    "docs/reference/cli.html",
    "docs/reference/python.html",
    "docs/explanation/branch-and-bound.html",
    "docs/explanation/comparison.html",
)


@pytest.mark.browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_barriers(site: Path, browser: Any, scheme: str) -> None:
    """No serious finding of axe, and no error on the console, on a page of every kind."""
    from axe_playwright_python.sync_playwright import Axe

    errors: list[str] = []
    context = browser.new_context(color_scheme=scheme, viewport={"width": 1280, "height": 900})
    page = context.new_page()
    page.on("pageerror", lambda error: errors.append(str(error)))
    serious: list[str] = []
    for name in CHECKED:
        page.goto((site / name).as_uri())
        for found in Axe().run(page).response["violations"]:
            if found["impact"] in ("serious", "critical"):
                places = [node["target"] for node in found["nodes"][:3]]
                serious.append(f"{name}: {found['id']}: {places}")
    context.close()
    assert serious == []
    assert errors == []
