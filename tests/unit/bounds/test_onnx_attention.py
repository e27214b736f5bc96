"""Attention as one operator and in elementary ones, against onnxruntime."""

from __future__ import annotations

import numpy as np
import pytest
from onnx_checks import agree, f, ints, model_of, w

from bounds.errors import ModelUnsupported

Q, K = (1, 2, 3, 4), (1, 2, 5, 4)


def test_plain() -> None:
    agree("y = Attention(q, k, v)", 23, q=Q, k=K, v=K)
    agree("y = Attention<scale=0.3>(q, k, v)", 23, q=Q, k=K, v=(1, 2, 5, 3))
    agree("y = Attention(q, k, v)", 23, q=Q, k=w(*K), v=w(*K))
    agree("y = Attention(x, x, x)", 23, x=(1, 1, 2, 3))


def test_heads_in_the_last_axis() -> None:
    agree("y = Attention<q_num_heads=2,kv_num_heads=2>(q, k, v)", 23, q=(2, 3, 8), k=(2, 5, 8), v=(2, 5, 6))
    agree("y = Attention<q_num_heads=4,kv_num_heads=2>(q, k, v)", 23, q=(1, 3, 8), k=(1, 4, 4), v=(1, 4, 4))


def test_masks() -> None:
    keep = np.random.default_rng(0).random((3, 5)) > 0.4
    keep[:, 0] = True
    agree("y = Attention(q, k, v, m)", 23, q=Q, k=K, v=K, m=keep)
    agree("y = Attention(q, k, v, m)", 23, q=Q, k=K, v=K, m=w(3, 5))
    agree(
        "y = Attention(q, k, v, m)", 23, q=Q, k=K, v=K, m=np.where(keep, w(3, 5), -np.inf).astype(np.float32)
    )
    agree("y = Attention(q, k, v, m)", 23, q=Q, k=K, v=K, m=(3, 5))
    agree("y = Attention<is_causal=1>(q, k, v)", 23, q=Q, k=Q, v=Q)


def test_past_and_cap() -> None:
    past = (1, 2, 2, 4)
    outputs = "float y, float a, float b"
    agree("y, a, b = Attention(q, k, v, , c, d)", 23, q=Q, k=Q, v=Q, c=past, d=past, outputs=outputs)
    agree(
        "y, a, b = Attention<is_causal=1>(q, k, v, , c, d)",
        23,
        q=Q,
        k=Q,
        v=Q,
        c=w(*past),
        d=past,
        outputs=outputs,
    )
    agree("y = Attention<softcap=2.0>(q, k, v)", 23, q=Q, k=K, v=K)
    with pytest.raises(ModelUnsupported, match="softcap"):
        model_of("y = Attention<softcap=2.0,is_causal=1>(q, k, v)", 23, q=Q, k=Q, v=Q)


def test_in_elementary_operators() -> None:
    agree(
        "q = MatMul(x, a) k = MatMul(x, b) v = MatMul(x, c)"
        "h = Reshape(q, s) i = Reshape(k, s) j = Reshape(v, s)"
        "l = Transpose<perm=[0,2,1,3]>(h) m = Transpose<perm=[0,2,3,1]>(i) n = Transpose<perm=[0,2,1,3]>(j)"
        "o = MatMul(l, m) p = Mul(o, e) r = Softmax<axis=-1>(p) t = MatMul(r, n)"
        "u = Transpose<perm=[0,2,1,3]>(t)"
        "y = Reshape(u, z)",
        17, x=(1, 3, 4), a=w(4, 4), b=w(4, 4, seed=1), c=w(4, 4, seed=2), s=ints(1, 3, 2, 2), e=f(0.5),
        z=ints(1, 3, 4),
    )  # fmt: skip


def test_causal_mask_in_elementary_operators() -> None:
    mask = np.where(np.tri(3, dtype=bool), 0.0, -np.inf).astype(np.float32)
    agree("s = Add(x, m) y = Softmax(s)", 17, x=(2, 3, 3), m=mask)
    agree("s = Where(c, x, n) y = Softmax(s)", 17, x=(2, 3, 3), c=np.tri(3, dtype=bool), n=f(-np.inf))
    body = "m = Where(c, z, n) y = Attention(q, k, v, m)"
    agree(body, 23, q=Q, k=Q, v=Q, c=np.tri(3, dtype=bool), z=f(0.0), n=f(-np.inf))
