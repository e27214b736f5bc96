"""The fused array primitives that every bounding method is written in.

Two implementations: :mod:`bounds.kernels.numpy` (start-up, small graphs, float64 settling, exact
rationals) and :mod:`bounds.kernels.torch` (large graphs, GPUs, training). Everything above the kernels
is written once. Arrays are whatever the backend uses; letters: ``D`` domains, ``R`` packed rows,
``n`` flat node size, ``d`` flat input size.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from bounds.numerics import Precision

if TYPE_CHECKING:
    from bounds.ops.conv import ConvGeometry


class Kernels(Protocol):
    """Primitives of one backend in one precision."""

    precision: Precision
    name: str

    def array(self, values: Any) -> Any:
        """A constant (NumPy float64, bool or index array) in the backend's form and precision."""
        ...

    def numpy(self, values: Any) -> Any:
        """Back to a NumPy array (float64 for floating point)."""
        ...

    def zeros(self, *shape: int) -> Any:
        """Zeros in working precision."""
        ...

    def matmul(self, a: Any, b: Any) -> Any:
        """``a @ b``."""
        ...

    def rowdot(self, a: Any, b: Any) -> Any:
        """``R``: row-wise dot product of ``R n`` arrays, the second of which may be one row for all."""
        ...

    def abs_dot(self, a: Any, t: Any) -> Any:
        """``R``: ``|a| @ t`` with ``t: n``; a zero coefficient costs nothing, even where t is infinite."""
        ...

    def relax(self, a: Any, lower: Any, upper: Any, offset: Any) -> tuple[Any, Any]:
        """The sign-split relaxation step of a lower bound.

        Args:
            a: ``R n`` coefficients at the op's output.
            lower, upper: ``R n`` slopes of the lower and upper line (here and below ``1 n`` serve all rows).
            offset: ``R n`` intercepts of the upper line (lower lines go through the origin).

        Returns:
            ``([a]+ lower + [a]- upper, sum_n [a]- offset)``; each coefficient is rounded once.
        """
        ...

    def relax_lines(self, a: Any, lower: Any, upper: Any, below: Any, above: Any) -> tuple[Any, Any, Any]:
        """The sign-split relaxation step for lines with intercepts on both sides.

        Args:
            a: ``R n`` coefficients at the op's output.
            lower, upper: ``R n`` slopes; below, above: ``R n`` intercepts of the lower and upper lines.

        Returns:
            ``([a]+ lower + [a]- upper, sum_n [a]+ below + [a]- above, sum of the terms' magnitudes)``; a zero
            coefficient makes no use of its intercepts, which may be infinite.
        """
        ...

    def relax_slopes(self, a: Any, lower: Any, upper: Any) -> Any:
        """``[a]+ lower + [a]- upper``."""
        ...

    def concretize(self, a: Any, centre: Any, radius: Any) -> Any:
        """``R``: ``a . centre - |a| . radius`` for ``R d`` rows and per-row boxes."""
        ...

    def take(self, a: Any, index: Any) -> Any:
        """Rows ``a[index]``."""
        ...

    def nonzero(self, mask: Any) -> tuple[Any, Any]:
        """Row and column indices of the true entries of a 2-D mask, row-major."""
        ...

    def concat(self, parts: list[Any], axis: int = 0) -> Any:
        """Concatenation."""
        ...

    def place(self, share: Any, steps: int) -> tuple[Any, Any, Any]:
        """Where numbers in [0, 1] lie on a grid of ``steps`` cells: in cells, the cell's index, the rest.

        Numbers outside count as the nearer end, a NaN as 0.
        """
        ...

    def on_grid(self, share: Any, steps: int) -> Any:
        """Rounded to multiples of ``1 / steps``."""
        ...

    def pick(self, tables: Any, dom: Any, index: Any) -> Any:
        """``R n``: entries ``index: R n`` of ``tables: D n points`` for boxes ``dom: R``."""
        ...

    def where(self, mask: Any, a: Any, b: Any) -> Any:
        """Elementwise choice (scalars allowed)."""
        ...

    def minimum(self, a: Any, b: Any) -> Any:
        """Elementwise minimum; scalars allowed for ``b``."""
        ...

    def maximum(self, a: Any, b: Any) -> Any:
        """Elementwise maximum; scalars allowed for ``b``."""
        ...

    def divide(self, a: Any, b: Any) -> Any:
        """Elementwise quotient in working precision."""
        ...

    def floor(self, a: Any) -> Any:
        """The largest whole numbers that are not greater."""
        ...

    def max0(self, a: Any) -> Any:
        """Maximum over the first axis."""
        ...

    def sum(self, a: Any, axis: int) -> Any:
        """Sum over one axis."""
        ...

    def total(self, a: Any) -> Any:
        """Sum of all entries, as a scalar that need not have left the device."""
        ...

    def copy(self, a: Any) -> Any:
        """A copy that may be written to."""
        ...

    def columns(self, a: Any, index: Any) -> Any:
        """``a[:, index]`` for ``R n`` and an index of any shape (in the backend's form)."""
        ...

    def spread(self, a: Any, index: Any, size: int, *, unique: bool) -> Any:
        """``R size``: column ``index[i]`` receives column i of ``a``; repeated ones add up."""
        ...

    def add_at(self, a: Any, index: Any, values: Any) -> None:
        """Adds values in place; entries of a repeated index add up."""
        ...

    def unit_rows(self, index: Any, size: int) -> Any:
        """``len(index) size``: row r is one at column ``index[r]``."""
        ...

    def conv_weight(self, weight: Any, geometry: ConvGeometry) -> Any:
        """A weight ``(O, C/groups, kh, kw)`` arranged for :meth:`conv` (nothing converted or rounded)."""
        ...

    def conv(self, x: Any, weight: Any, geometry: ConvGeometry) -> Any:
        """``M features``: the convolution of flat images ``M image``, by plain sums of products."""
        ...

    def conv_adjoint(self, a: Any, weight: Any, geometry: ConvGeometry) -> Any:
        """``M image``: the adjoint of :meth:`conv` on flat features."""
        ...
