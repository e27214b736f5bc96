"""ONNX operators: one table ``op_type -> builder``, collected from one table per family.

A builder gets the importer's workbench and one ONNX node and returns the node's outputs. To add an
operator, write its builder in the fitting file, enter it in that file's table, and add a case to
the conformance tests (they fail if it is forgotten).
"""

from __future__ import annotations

from collections.abc import Mapping

from bounds.io.context import Builder
from bounds.io.onnx_ops import affine, constant, conv, move, pool, relu, resample

BUILDERS: Mapping[str, Builder] = {
    **constant.BUILDERS,
    **affine.BUILDERS,
    **conv.BUILDERS,
    **pool.BUILDERS,
    **relu.BUILDERS,
    **move.BUILDERS,
    **resample.BUILDERS,
}
