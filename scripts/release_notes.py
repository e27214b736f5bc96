"""Turns the fragments in ``changes/`` into release notes.

    python scripts/release_notes.py                       # prints the notes
    python scripts/release_notes.py --release 0.2.0 --date 2026-12-24
        # writes them into CHANGELOG.md under that version and removes the fragments; then look, and commit

A fragment is one sentence that begins with **Added**, **Changed**, **Faster**, **Fixed** or **Removed**.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
KINDS = ("Added", "Changed", "Faster", "Fixed", "Removed")
_FRAGMENT = re.compile(rf"\*\*({'|'.join(KINDS)})\*\* (.+)", re.DOTALL)
_VERSION = re.compile(r"[0-9]+\.[0-9]+\.[0-9]+((a|b|rc)[0-9]+)?")


def fragments(folder: Path) -> list[Path]:
    """The files of a folder that are fragments."""
    return sorted(p for p in folder.glob("*.md") if p.name != "README.md")


def notes(folder: Path) -> str:
    """Markdown: a heading for each kind of change that there is, a bullet for each fragment.

    Raises:
        ValueError: a fragment that is not of the agreed form, by its name.
    """
    found: dict[str, list[str]] = {kind: [] for kind in KINDS}
    for path in fragments(folder):
        for paragraph in re.split(r"\n\s*\n", path.read_text(encoding="utf-8").strip()):
            match = _FRAGMENT.fullmatch(paragraph)
            if match is None:
                raise ValueError(f"{path.name}: begins with none of {', '.join(f'**{k}**' for k in KINDS)}")
            text = " ".join(match[2].split())
            found[match[1]].append(f"- {text[0].upper()}{text[1:]}")
    parts = [f"### {kind}\n\n" + "\n".join(lines) for kind, lines in found.items() if lines]
    return "\n\n".join(parts) + "\n" if parts else ""


def released(changelog: str, version: str, date: str, text: str) -> str:
    """The changelog with a version's notes before those of the versions before it.

    Raises:
        ValueError: the version is there already, is none, or the changelog has no place for it.
    """
    if not _VERSION.fullmatch(version):
        raise ValueError(f"'{version}' is no version; give one such as 0.2.0")
    if not re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", date):
        raise ValueError(f"'{date}' is no date; give one such as 2026-12-24")
    if not text:
        raise ValueError("changes/ holds no fragment; there is nothing to release")
    ours = re.search(rf"^## \[{re.escape(version)}\] - (.*)$", changelog, re.MULTILINE)
    if ours is not None and ours[1] != "unreleased":
        raise ValueError(f"CHANGELOG.md has version {version} already")
    if ours is not None:  # begun, and not released: its own notes stay, the fragments' come before them
        head, tail = changelog[: ours.start()], changelog[ours.end() :]
        return f"{head}## [{version}] - {date}\n\n{text}{tail}"
    before = re.search(r"^## \[", changelog, re.MULTILINE)
    if before is None:
        raise ValueError("CHANGELOG.md has no heading '## [version]' to put the notes before")
    return f"{changelog[: before.start()]}## [{version}] - {date}\n\n{text}\n{changelog[before.start() :]}"


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--release", metavar="VERSION")
    parser.add_argument("--date", default="")
    given = parser.parse_args()
    try:
        text = notes(ROOT / "changes")
        if given.release is None:
            sys.stdout.write(text)
            return 0
        log = ROOT / "CHANGELOG.md"
        log.write_text(
            released(log.read_text(encoding="utf-8"), given.release, given.date, text), encoding="utf-8"
        )
    except ValueError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    for path in fragments(ROOT / "changes"):
        path.unlink()
    return 0


if __name__ == "__main__":
    sys.exit(main())
