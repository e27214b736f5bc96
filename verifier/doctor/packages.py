"""Installed packages beside what surebound's own metadata asks for: one list, in ``pyproject.toml``."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib import metadata

from verifier.doctor.model import Finding, Level

DISTRIBUTION = "surebound"
# what the extras are for, in the order in which they are listed; a test compares with the metadata
EXTRAS = {
    "vnnlib2": "properties in VNN-LIB 2.0",
    "torch": "PyTorch modules as models",
    "train": "verify train",
    "train-logs": "TensorBoard and MLflow for training",
    "sdp": "baseline solvers of verify lipschitz",
    "service": "verify serve",
    "gate": "image folders and parquet files as data of the gate",
    "postgres": "a shared database of jobs",
    "redis": "workers on several machines",
    "s3": "files of jobs in an object store",
}
_REQUIREMENT = re.compile(
    r"(?P<name>[A-Za-z0-9._-]+)(\[[^\]]*\])?\s*(>=\s*(?P<least>[0-9.]+))?[^;]*(;(?P<marker>.*))?$"
)
_EXTRA = re.compile(r"extra\s*==\s*['\"]([^'\"]+)['\"]")


@dataclass(frozen=True, slots=True)
class Requirement:
    """A package that surebound asks for: at least this version, for this extra ("" for always)."""

    name: str
    least: str
    extra: str


def requirements() -> list[Requirement]:
    """All of them; empty where surebound is not installed (a source tree on the path)."""
    try:
        lines = metadata.requires(DISTRIBUTION) or []
    except metadata.PackageNotFoundError:
        return []
    return [parsed for line in lines if (parsed := parse(line)) is not None]


def parse(line: str) -> Requirement | None:
    """A requirement of the metadata, which hatchling writes as ``name>=version; marker``."""
    match = _REQUIREMENT.match(line.strip())
    if match is None:
        return None
    extra = _EXTRA.search(match["marker"] or "")
    return Requirement(match["name"], match["least"] or "", extra[1] if extra else "")


def version_of(name: str) -> str:
    """The installed version, or ""."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""


def older(version: str, least: str) -> bool:
    """Whether a version is below another, by the numbers that both begin with."""

    def numbers(text: str) -> list[int]:
        found = re.match(r"[0-9]+(\.[0-9]+)*", text)
        return [int(part) for part in found[0].split(".")] if found else []

    a, b = numbers(version), numbers(least)
    width = max(len(a), len(b))
    return a + [0] * (width - len(a)) < b + [0] * (width - len(b))


def check_required() -> Iterator[Finding]:
    """The packages that everything needs: present, recent enough, and loadable."""
    wanted = [r for r in requirements() if not r.extra]
    if not wanted:
        yield Finding(
            DISTRIBUTION,
            Level.PROBLEM,
            "is not installed, only importable: commands of other packages are not found",
            "install it: pip install . in its folder",
        )
    for one in wanted:
        version = version_of(one.name)
        if not version or (one.least and older(version, one.least)):
            found = f"{version or 'missing'}, needed is {one.least or 'any version'}"
            yield Finding(one.name, Level.PROBLEM, found, f"pip install '{one.name}>={one.least or 0}'")
            continue
        try:
            importlib.import_module(one.name.replace("-", "_"))
        except Exception as error:  # whatever a broken library raises is the finding
            reason = f"{version}, but cannot be loaded: {type(error).__name__}: {error}"
            yield Finding(one.name, Level.PROBLEM, " ".join(reason.split()), f"reinstall {one.name}")
        else:
            yield Finding(one.name, Level.OK, version)


def check_extras() -> Iterator[Finding]:
    """What the extras add, and how to get it."""
    everything = requirements()
    for extra, purpose in EXTRAS.items():
        wanted = [r for r in everything if r.extra == extra]
        if wanted:
            yield _extra(extra, purpose, wanted)


def _extra(extra: str, purpose: str, wanted: Iterable[Requirement]) -> Finding:
    present = [(r, version_of(r.name)) for r in wanted]
    missing = [r.name for r, version in present if not version]
    old = [
        f"{r.name} {version} (needed is {r.least})"
        for r, version in present
        if version and r.least and older(version, r.least)
    ]
    command = f"pip install 'surebound[{extra}]'"
    if missing or old:
        parts = [f"missing: {', '.join(missing)}"] if missing else []
        parts += [f"too old: {', '.join(old)}"] if old else []
        return Finding(f"extra {extra}", Level.NOTE, f"{purpose}; {'; '.join(parts)}", command)
    versions = ", ".join(f"{r.name} {version}" for r, version in present)
    return Finding(f"extra {extra}", Level.OK, f"{purpose}; {versions}")
