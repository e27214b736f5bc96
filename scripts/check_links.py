"""Fails when a relative link in a Markdown file of the repository leads nowhere.

Checks the target's existence and, for ``file.md#heading``, the heading.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)|!\[[^\]]*\]\(([^)\s]+)\)")
FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)


def pages() -> list[Path]:
    """README and friends, docs, and the README files of other folders."""
    found = {*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("*/README.md")}
    return sorted(found)


def anchors(page: Path) -> set[str]:
    """Anchors of the headings, made as GitHub makes them."""
    titles = re.findall(r"^#+\s+(.*?)\s*$", FENCE.sub("", page.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def broken(page: Path) -> list[str]:
    """Links of one page that lead nowhere."""
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    bad: list[str] = []
    for match in LINK.finditer(text):
        link = match.group(1) or match.group(2)
        if re.match(r"[a-z]+:", link):
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        if not target.exists() or (anchor and target.suffix == ".md" and anchor not in anchors(target)):
            bad.append(f"{page.relative_to(ROOT)}: {link}")
    return bad


def main() -> int:
    listed = pages()
    bad = [line for page in listed for line in broken(page)]
    sys.stdout.write("".join(f"broken link: {line}\n" for line in bad))
    sys.stdout.write(f"{len(listed)} pages, {len(bad)} broken links\n")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
