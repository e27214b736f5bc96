"""Matrix products of two variables and Einsum, against onnxruntime."""

from __future__ import annotations

from typing import Any

import pytest
from onnx_checks import agree, model_of, w

from bounds.errors import ModelInvalid
from bounds.graph import Op

MATMUL = [
    ((2, 3), (3, 4)),
    ((3,), (3, 4)),
    ((2, 3), (3,)),
    ((3,), (3,)),
    ((2, 1, 2, 3), (4, 3, 2)),
    ((5, 2, 3), (3,)),
    ((3,), (2, 3, 2)),
    ((2, 1), (1, 4)),
]


@pytest.mark.parametrize(("a", "b"), MATMUL)
def test_matmul_of_variables(a: tuple[int, ...], b: tuple[int, ...]) -> None:
    model = agree("y = MatMul(a, b)", a=a, b=b)
    (product,) = model.graph.products
    assert product.roundings == 0
    sums = [n for n in model.graph.nodes if n.op is Op.SUM]
    assert [n.roundings for n in sums] == [a[-1]]


def test_matmul_of_a_tensor_with_itself() -> None:
    agree("t = Transpose<perm=[1,0]>(x) y = MatMul(x, t)", x=(3, 2))


@pytest.mark.parametrize("c", [(), (4,), (2, 4), (2, 1)])
def test_gemm_with_variable_c(c: tuple[int, ...]) -> None:
    agree("y = Gemm<alpha=0.5, beta=2.0, transB=1>(x, k, c)", x=(2, 3), k=w(4, 3), c=c)
    agree("y = Gemm<alpha=0.5, beta=2.0, transA=1>(a, b, c)", a=(3, 2), b=(3, 4), c=c)


EINSUM = [
    ("ij->ji", [(2, 3)]),
    ("ij->", [(2, 3)]),
    ("ij->i", [(2, 3)]),
    ("ii->i", [(3, 3)]),
    ("ii", [(3, 3)]),
    ("ij,jk->ik", [(2, 3), (3, 4)]),
    ("ij,jk", [(2, 3), (3, 4)]),
    ("bhid,bhjd->bhij", [(1, 2, 3, 4), (1, 2, 2, 4)]),
    ("bhij,bhjd->bihd", [(1, 2, 3, 2), (1, 2, 2, 4)]),
    ("...ij,...jk->...ik", [(2, 1, 2, 3), (1, 4, 3, 2)]),
    ("i,j->ij", [(2,), (3,)]),
    ("ij,ij->ij", [(2, 3), (2, 3)]),
    ("ij,ij->", [(2, 3), (2, 3)]),
    ("ij,ij->i", [(2, 3), (2, 3)]),
    ("ij,k->k", [(2, 3), (4,)]),
    ("ij,jk,kl->il", [(2, 3), (3, 2), (2, 2)]),
    ("bid,d->bi", [(1, 2, 3), (3,)]),
    ("i,i->", [(3,), (3,)]),
]


@pytest.mark.parametrize(("equation", "shapes"), EINSUM)
def test_einsum(equation: str, shapes: list[tuple[int, ...]]) -> None:
    names = "abc"[: len(shapes)]
    given: dict[str, Any] = dict(zip(names, shapes, strict=True))
    body = f'y = Einsum<equation="{equation}">({", ".join(names)})'
    agree(body, **given)
    for fixed in names if len(names) > 1 else ():
        agree(body, **{**given, fixed: w(*given[fixed])})


def test_einsum_of_constants_meets_the_input() -> None:
    agree('c = Einsum<equation="ij,jk->ik">(a, b) y = Add(x, c)', x=(2, 2), a=w(2, 3), b=w(3, 2))


@pytest.mark.parametrize("equation", ["ij,jk->ik->i", "ij->ij", "i1,ij->i", "ij,jk->iz", "ij,jk->ii"])
def test_bad_equations_are_errors(equation: str) -> None:
    with pytest.raises(ModelInvalid):
        model_of(f'y = Einsum<equation="{equation}">(a, b)', a=(2, 2), b=(2, 2))
