"""A picture of a robustness report: accuracy by radius, and a histogram of proved radii."""

from __future__ import annotations

import numpy as np

from bounds.graph import Array
from sdp.chart import Chart, Series, svg
from verifier.robustness.result import RobustnessReport

BINS = 24


def picture(report: RobustnessReport) -> str:
    """SVG text."""
    count = range(len(report.radii))
    radii = [0.0, *(float(report.radii[k].exact) for k in count)]
    certified = Series("certified", radii, [report.clean, *(report.certified(k) for k in count)])
    upper = Series(
        "at most", radii, [1 - float(report.table.wrong.mean()), *(report.upper(k) for k in count)]
    )
    accuracy = Chart(
        f"Accuracy by radius ({report.samples} samples, {report.norm}-norm)", "radius", "share",
        [certified, upper],
    )  # fmt: skip
    spread = [
        Series(name, *_histogram(values, report), "bars")
        for name, values in (("global", report.everywhere), ("local", report.local))
        if np.isfinite(values).any()
    ]
    if not spread:
        return svg([accuracy])
    return svg([accuracy, Chart("Radii proved by Lipschitz constants", "radius", "samples", spread)])


def _histogram(values: Array, report: RobustnessReport) -> tuple[list[float], list[float]]:
    known = np.concatenate([v[np.isfinite(v)] for v in (report.everywhere, report.local)])
    edges = np.linspace(0.0, max(float(known.max(initial=0.0)), 1e-12), BINS + 1)
    counts, _ = np.histogram(values[np.isfinite(values)], edges)
    return [float(v) for v in (edges[:-1] + edges[1:]) / 2], [float(c) for c in counts]
