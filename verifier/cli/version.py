"""The installed version."""

from __future__ import annotations


def version() -> str:
    """Version of the installed distribution, or ``0+unknown`` in a tree that is not installed."""
    from importlib import metadata  # 20 ms, which --help need not pay

    try:
        return metadata.version("surebound")
    except metadata.PackageNotFoundError:
        return "0+unknown"
