"""Fails when a relative link in a Markdown file of the repository leads nowhere.

Checks the target's existence and, for ``file.md#heading``, the heading. With ``--external`` links to other
servers are asked for as well; that needs a network, so no test does it.
"""

from __future__ import annotations

import re
import sys
import urllib.error
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)|!\[[^\]]*\]\(([^)\s]+)\)")
FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)


def pages() -> list[Path]:
    """README and friends, docs, and the README files of other folders."""
    found = {
        *ROOT.glob("*.md"),
        *ROOT.glob("docs/**/*.md"),
        *ROOT.glob("*/README.md"),
        *ROOT.glob("examples/*/README.md"),
    }
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


def external() -> list[str]:
    """Links to other servers that are not answered; those that only refuse programs are told apart."""
    asked: dict[str, str] = {}
    for page in pages():
        text = FENCE.sub("", page.read_text(encoding="utf-8"))
        for link in re.findall(r"https?://[^\s)>\"'`\]]+", text):
            if not re.match(r"https?://(127\.|localhost)", link):
                asked.setdefault(link.rstrip(".,;"), str(page.relative_to(ROOT)))
    bad: list[str] = []
    for link, where in sorted(asked.items()):
        request = urllib.request.Request(link, headers={"User-Agent": "surebound link check"})  # noqa: S310
        try:
            urllib.request.urlopen(request, timeout=20).close()  # noqa: S310
        except urllib.error.HTTPError as error:
            if error.code not in (403, 429):  # the server is there and does not like programs
                bad.append(f"{where}: {link} ({error.code})")
        except (OSError, ValueError) as error:
            bad.append(f"{where}: {link} ({error})")
    return bad


def main() -> int:
    listed = pages()
    bad = [line for page in listed for line in broken(page)]
    if "--external" in sys.argv[1:]:
        bad += external()
    sys.stdout.write("".join(f"broken link: {line}\n" for line in bad))
    sys.stdout.write(f"{len(listed)} pages, {len(bad)} broken links\n")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
