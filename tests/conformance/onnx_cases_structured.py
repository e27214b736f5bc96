"""Cases of operators over axes: softmax, normalisation, recurrence, selection, quantisation."""

from __future__ import annotations

from onnx_case import Case

CASES: dict[str, list[Case]] = {}
