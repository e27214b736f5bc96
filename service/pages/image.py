"""Inputs as pictures, as pages use them; they are drawn by :mod:`verifier.report.image`."""

from __future__ import annotations

from verifier.report.image import Comparison, compare, layout, numbers, png

__all__ = ["Comparison", "compare", "layout", "numbers", "png"]
