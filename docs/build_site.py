"""Builds the documentation site: a copy of the pages with the repository's layout, then Zensical on it.

    python docs/build_site.py            # into build/site; needs `pip install --group docs`
    python docs/build_site.py --stage    # only the copy, in build/pages

Pages link to each other by their place in the repository, and to files that are no pages (results, scripts,
the licence). The copy holds what they link to, so links work on the site as they do in the repository; a link
to a folder goes to a list of its files.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGES = ROOT / "build" / "pages"
SITE = ROOT / "build" / "site"
PATTERNS = (
    "*.md", "docs/**/*.md", "examples/**/*.md", "benchmarks/**/*.md", "deploy/*.md", "tests/README.md",
    "changes/README.md",
)  # fmt: skip
_LINK = re.compile(r"(?P<open>!?\[[^\]]*\]\()(?P<to>[^)\s#]+)(?P<anchor>#[^)\s]*)?\)")
_IMAGE = re.compile(r"(?P<open><img [^>]*src=\")(?P<to>[^\"]+)\"")
_FENCE = re.compile(r"(^```.*?^```)", re.MULTILINE | re.DOTALL)


def pages() -> list[Path]:
    """The Markdown files of the site, relative to the root."""
    return sorted({p.relative_to(ROOT) for pattern in PATTERNS for p in ROOT.glob(pattern)})


def stage() -> None:
    """Makes the copy anew."""
    shutil.rmtree(PAGES, ignore_errors=True)
    for page in pages():
        text = (ROOT / page).read_text(encoding="utf-8")
        _write(page, "".join(_linked(page, part) for part in _FENCE.split(text)))
    shutil.copytree(ROOT / "docs" / "assets", PAGES / "docs" / "assets")


def _linked(page: Path, text: str) -> str:
    """Text between code blocks, with what it links to in the copy as well."""
    if text.startswith("```"):
        return text
    text = _IMAGE.sub(lambda match: _target(page, match), text)
    return _LINK.sub(lambda match: _target(page, match), text)


def _target(page: Path, match: re.Match[str]) -> str:
    to = match["to"]
    target = (ROOT / page.parent / to).resolve()
    if re.match(r"[a-z]+:", to) or not target.is_relative_to(ROOT) or not target.exists():
        return match[0]
    inside = target.relative_to(ROOT)
    if target.is_dir():
        listing = inside / "files.md"
        _write(listing, "\n".join(_listing(target)))
        return f"{match['open']}{to.rstrip('/')}/files.md)"
    if target.suffix != ".md":
        copy = PAGES / inside
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(target, copy)
    return match[0]


def _listing(folder: Path) -> Iterator[str]:
    yield f"# {folder.relative_to(ROOT)}\n"
    for path in sorted(folder.iterdir()):
        if not path.name.startswith((".", "_")):
            yield f"- {path.name}"


def _write(path: Path, text: str) -> None:
    (PAGES / path).parent.mkdir(parents=True, exist_ok=True)
    (PAGES / path).write_text(text, encoding="utf-8")


def build() -> None:
    """Stages and builds."""
    stage()
    shutil.rmtree(SITE, ignore_errors=True)
    command = [
        str(Path(sys.executable).with_name("zensical")),
        "build",
        "-f",
        str(ROOT / "mkdocs.yml"),
        "--clean",
    ]
    subprocess.run(command, cwd=ROOT, check=True)  # noqa: S603 - our own command


if __name__ == "__main__":
    stage() if "--stage" in sys.argv[1:] else build()
