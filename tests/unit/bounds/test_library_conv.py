"""The library's convolutions against our own sums per kernel position, and what is refused."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from bounds.kernels import library_conv
from bounds.kernels.library_conv import LibraryConvolutions
from bounds.kernels.numpy import NumpyKernels
from bounds.numerics import FLOAT32
from bounds.ops.conv import ConvGeometry


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small convolutions are worth a session here."""
    monkeypatch.setattr(library_conv, "_LEAST_CALL", 0)
    monkeypatch.setattr(library_conv, "_LEAST_EVER", 0)
    monkeypatch.setattr(library_conv, "_LEAST_DEALT", 0)


def ours() -> NumpyKernels:
    """Kernels that compute for themselves."""
    kernels = NumpyKernels(FLOAT32)
    kernels._library = None
    return kernels


def a_geometry(rng: np.random.Generator) -> tuple[ConvGeometry, Any] | None:
    groups = int(rng.choice([1, 1, 1, 2, 3]))
    c, o = (int(n) * groups for n in rng.integers(1, 13, 2))
    kernel, strides, dilations = (tuple(int(v) for v in rng.integers(1, m, 2)) for m in (5, 4, 3))
    pads = tuple(int(v) for v in rng.integers(0, 4, 4))
    h, w = (int(v) for v in rng.integers(6, 18, 2))
    reach = [d * (k - 1) + 1 for k, d in zip(kernel, dilations, strict=True)]
    p = (h + pads[0] + pads[2] - reach[0]) // strides[0] + 1
    q = (w + pads[1] + pads[3] - reach[1]) // strides[1] + 1
    if min(p, q) < 1:
        return None
    weight = rng.normal(size=(o, c // groups, *kernel)).astype(np.float32)
    params = {"weight": weight, "strides": strides, "pads": pads, "dilations": dilations, "groups": groups}
    return ConvGeometry((1, c, h, w), (1, o, p, q), params), weight


@pytest.mark.parametrize("seed", range(40))
def test_agrees_with_own_sums(seed: int) -> None:
    rng = np.random.default_rng(seed)
    made = a_geometry(rng)
    if made is None:
        return
    (g, weight), kernels, library = made, ours(), LibraryConvolutions()
    taps = kernels.conv_weight(weight, g)
    x = rng.normal(size=(5, g.c * g.h * g.w)).astype(np.float32)
    a = rng.normal(size=(5, g.o * g.p * g.q)).astype(np.float32)
    terms = len(taps) * max(g.c, g.o) + 1
    for found, own, sizes in (
        (library.conv(x, taps, g), kernels.conv(x, taps, g), kernels.conv(abs(x), abs(taps), g)),
        (
            library.adjoint(a, taps, g),
            kernels.conv_adjoint(a, taps, g),
            kernels.conv_adjoint(abs(a), abs(taps), g),
        ),
    ):
        assert found is not None
        assert found.dtype == np.float32
        assert np.all(abs(found - own) <= 2 * FLOAT32.gamma(terms) * sizes)


def test_one_session_serves_windows_of_any_size() -> None:
    rng = np.random.default_rng(0)
    weight = rng.normal(size=(8, 4, 3, 3)).astype(np.float32)
    kernels, library = ours(), LibraryConvolutions()
    params = {"weight": weight, "strides": (1, 1), "pads": (1, 1, 1, 1), "dilations": (1, 1), "groups": 1}
    taps = None
    for size in (6, 9, 12):
        g = ConvGeometry((1, 4, size, size), (1, 8, size, size), params)
        taps = kernels.conv_weight(weight, g) if taps is None else taps
        a = rng.normal(size=(3, 8 * size * size)).astype(np.float32)
        found = library.adjoint(a, taps, g)
        assert found is not None
        np.testing.assert_allclose(found, kernels.conv_adjoint(a, taps, g), rtol=1e-4, atol=1e-4)
    assert len(library._held) == 1


def test_threads_share_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(1)
    made = a_geometry(rng)
    assert made is not None
    (g, weight), kernels = made, ours()
    taps = kernels.conv_weight(weight, g)
    x = rng.normal(size=(7, g.c * g.h * g.w)).astype(np.float32)
    with ThreadPoolExecutor(3) as pool:
        monkeypatch.setattr(library_conv, "_pool", lambda: (3, pool))
        found = LibraryConvolutions().conv(x, taps, g)
    monkeypatch.setattr(library_conv, "_pool", lambda: (1, None))
    alone = LibraryConvolutions().conv(x, taps, g)
    assert found is not None and alone is not None
    np.testing.assert_array_equal(found, alone)


def test_a_transform_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A library whose results mix in what they should not see, as Winograd's tiles do, is not used."""
    genuine = library_conv._run_of

    def mixing(kind: str, attributes: dict[str, Any], weight: Any) -> Any:
        run = genuine(kind, attributes, weight)
        assert run is not None

        def mixed(images: Any) -> Any:
            y = run(images)
            return (y + y.sum(axis=-1, keepdims=True)) - y.sum(axis=-1, keepdims=True)

        return mixed

    rng = np.random.default_rng(2)
    weight = rng.normal(size=(4, 4, 3, 3)).astype(np.float32)
    params = {"weight": weight, "strides": (1, 1), "pads": (1, 1, 1, 1), "dilations": (1, 1), "groups": 1}
    g = ConvGeometry((1, 4, 16, 16), (1, 4, 16, 16), params)
    x = rng.normal(size=(2, 4 * 16 * 16)).astype(np.float32)
    taps = ours().conv_weight(weight, g)
    assert LibraryConvolutions().conv(x, taps, g) is not None
    monkeypatch.setattr(library_conv, "_run_of", mixing)
    library = LibraryConvolutions()
    assert library.conv(x, taps, g) is None
    assert library.adjoint(x, taps, g) is None


def test_small_calls_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library_conv, "_LEAST_CALL", 10_000_000)
    rng = np.random.default_rng(3)
    made = a_geometry(rng)
    assert made is not None
    g, weight = made
    x = rng.normal(size=(1, g.c * g.h * g.w)).astype(np.float32)
    library = LibraryConvolutions()
    assert library.conv(x, ours().conv_weight(weight, g), g) is None
    assert not library._held


def test_a_probe_that_says_nothing_is_no_proof() -> None:
    """Where every result sees a huge entry, a transform would pass as well."""
    weight = np.ones((2, 2, 3, 3), dtype=np.float32)
    params = {"weight": weight, "strides": (1, 1), "pads": (0, 0, 0, 0), "dilations": (1, 1), "groups": 1}
    g = ConvGeometry((1, 2, 3, 3), (1, 2, 1, 1), params)
    taps = ours().conv_weight(weight, g)
    assert LibraryConvolutions().conv(np.ones((4, 18), dtype=np.float32), taps, g) is None
