"""ONNX operators: one table ``op_type -> builder``, collected from one table per family.

A builder gets the importer's workbench and one ONNX node and returns the node's outputs. To add an
operator, write its builder in the fitting file, enter it in that file's table, and add a case to
the conformance tests (they fail if it is forgotten).
"""

from __future__ import annotations

from collections.abc import Mapping

from bounds.io.context import Builder
from bounds.io.onnx_ops import (
    affine,
    arithmetic,
    attention,
    average,
    constant,
    conv,
    einsum,
    elementwise,
    logic,
    move,
    normalise,
    pool,
    quantise,
    recurrent,
    reduce,
    relu,
    resample,
    scatter,
    select,
    softmax,
)

BUILDERS: Mapping[str, Builder] = {
    **affine.BUILDERS,
    **arithmetic.BUILDERS,
    **attention.BUILDERS,
    **average.BUILDERS,
    **constant.BUILDERS,
    **conv.BUILDERS,
    **einsum.BUILDERS,
    **elementwise.BUILDERS,
    **logic.BUILDERS,
    **move.BUILDERS,
    **normalise.BUILDERS,
    **pool.BUILDERS,
    **quantise.BUILDERS,
    **recurrent.BUILDERS,
    **reduce.BUILDERS,
    **relu.BUILDERS,
    **resample.BUILDERS,
    **scatter.BUILDERS,
    **select.BUILDERS,
    **softmax.BUILDERS,
}
