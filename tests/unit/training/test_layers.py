"""Every parameterisation keeps its contract: one inherited class, one row of the table each."""

from __future__ import annotations

from fractions import Fraction
from typing import Any, ClassVar

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs PyTorch: ./scripts/test installs it")
pytestmark = pytest.mark.torch

from bounds.errors import BadInput  # noqa: E402
from training import proof  # noqa: E402
from training.layers import LAYERS, check_pair, make_conv, make_dense  # noqa: E402
from training.layers.base import DenseMap, Materialised  # noqa: E402

SIZE = (6, 6)


def disturb(layer: Any, scale: float) -> None:
    """Random parameters: norms must hold for all of them, not only at the start."""
    with torch.no_grad():
        for p in layer.parameters():
            p.add_(scale * torch.randn_like(p))


def dense(name: str, inputs: int = 7, outputs: int = 5) -> Any:
    return make_dense(name, inputs, inputs if LAYERS[name].residual else outputs)


def conv(name: str, **options: Any) -> Any:
    channels = (3, 3) if LAYERS[name].residual else (3, 4)
    return make_conv(name, *channels, 3, size=SIZE, **options)


def exact_gram_is_below_identity(weight: Any) -> bool:
    """``I - W W' >= 0`` by LDL' in exact rationals: the spectral norm of these very floats is at most 1."""
    w = [[Fraction(float(v)) for v in row] for row in np.asarray(weight)]
    n = len(w)
    m = [
        [Fraction(int(i == j)) - sum(a * b for a, b in zip(w[i], w[j], strict=True)) for j in range(n)]
        for i in range(n)
    ]
    for k in range(n):
        if m[k][k] < 0 or (m[k][k] == 0 and any(m[k][j] for j in range(k + 1, n))):
            return False
        for i in range(k + 1, n):
            if m[k][k]:
                factor = m[i][k] / m[k][k]
                for j in range(k + 1, n):
                    m[i][j] -= factor * m[k][j]
    return True


class Contract:
    """What every layer keeps."""

    make: ClassVar[Any]
    shape: ClassVar[tuple[int, ...]]

    def inputs(self, count: int, dtype: Any = None) -> Any:
        return torch.randn(count, *self.shape, dtype=dtype or torch.float32)

    @pytest.mark.parametrize("scale", [0.0, 0.3, 3.0])
    def test_the_constant_is_one_and_no_pair_beats_it(self, name: str, scale: float) -> None:
        torch.manual_seed(1)
        for _ in range(3):
            layer = self.make(name)
            disturb(layer, scale)
            made = layer.eval().materialise()
            assert isinstance(made, Materialised)
            assert 0.0 < made.lipschitz() <= 1.0
            plain = made.body.double()
            x = self.inputs(64, torch.float64)
            y = x + 10.0 ** -torch.arange(64, dtype=torch.float64).remainder(5).reshape(
                -1, *[1] * len(self.shape)
            ) * self.inputs(64, torch.float64)
            with torch.no_grad():
                after = torch.linalg.vector_norm((plain(x) - plain(y)).flatten(1), dim=1)
            before = torch.linalg.vector_norm((x - y).flatten(1), dim=1)
            assert bool((after <= made.constant * before * (1 + 1e-9)).all())

    def test_materialised_is_the_layer_to_rounding(self, name: str) -> None:
        torch.manual_seed(2)
        layer = self.make(name)
        disturb(layer, 0.2)
        x = self.inputs(9)
        layer.train()
        layer(x)
        layer.eval()
        with torch.no_grad():
            torch.testing.assert_close(layer.materialise()(x), layer(x), rtol=2e-5, atol=2e-5)

    def test_gradients(self, name: str) -> None:
        torch.manual_seed(3)
        layer = self.make(name)
        disturb(layer, 0.1)
        layer = layer.double().eval()
        x = self.inputs(2, torch.float64)
        parameters = list(layer.parameters())

        def value(*values: Any) -> Any:
            held = dict(zip((n for n, _ in layer.named_parameters()), values, strict=True))
            return torch.func.functional_call(layer, held, (x,))

        ways = [torch.randn_like(p) for p in parameters]
        mix = torch.randn_like(value(*parameters))
        total = (value(*parameters) * mix).sum()
        gradients = torch.autograd.grad(total, parameters, allow_unused=True)
        slope = sum(float((g * w).sum()) for g, w in zip(gradients, ways, strict=True) if g is not None)
        step = 1e-6
        ends = [
            float(
                (value(*(p + s * step * w for p, w in zip(parameters, ways, strict=True))) * mix)
                .sum()
                .detach()
            )
            for s in (1, -1)
        ]
        assert (ends[0] - ends[1]) / (2 * step) == pytest.approx(slope, rel=2e-4, abs=2e-4)

    def test_a_nan_is_refused(self, name: str) -> None:
        layer = self.make(name)
        with torch.no_grad():
            layer.raw.fill_(float("nan")) if hasattr(layer, "raw") else layer.factors.fill_(float("nan"))
        with pytest.raises((ValueError, RuntimeError)):
            layer.eval().materialise()


@pytest.mark.parametrize("name", LAYERS)
class TestDense(Contract):
    """The dense form of every row."""

    make: ClassVar[Any] = staticmethod(dense)
    shape: ClassVar[tuple[int, ...]] = (7,)


@pytest.mark.parametrize("name", LAYERS)
class TestConv(Contract):
    """The same for convolutions."""

    make: ClassVar[Any] = staticmethod(conv)
    shape: ClassVar[tuple[int, ...]] = (3, *SIZE)


@pytest.mark.parametrize("name", [n for n in LAYERS if not LAYERS[n].residual])
class TestStrided(Contract):
    """Stride 2, where the layer does not have to keep its size."""

    make: ClassVar[Any] = staticmethod(lambda name: conv(name, stride=2))
    shape: ClassVar[tuple[int, ...]] = (3, *SIZE)


@pytest.mark.parametrize("name", [n for n in LAYERS if LAYERS[n].groups])
class TestGroups(Contract):
    """Two groups."""

    make: ClassVar[Any] = staticmethod(lambda name: make_conv(name, 4, 6, 3, size=SIZE, groups=2))
    shape: ClassVar[tuple[int, ...]] = (4, *SIZE)


@pytest.mark.parametrize("name", [n for n in LAYERS if not LAYERS[n].own_relu])
def test_norms_in_exact_arithmetic(name: str) -> None:
    """The floats themselves, by rationals: independent of the proof in floating point."""
    torch.manual_seed(4)
    for scale in (0.0, 1.0):
        layer = dense(name, 6, 4)
        disturb(layer, scale)
        assert exact_gram_is_below_identity(layer.eval().materialise().body.weight.detach().numpy())


@pytest.mark.parametrize("name", LAYERS)
def test_a_thousand_random_parameters(name: str) -> None:
    torch.manual_seed(5)
    layer = dense(name, 5, 5).eval()
    for trial in range(1000):
        with torch.no_grad():
            for p in layer.parameters():
                p.copy_(torch.randn_like(p) * 10.0 ** (trial % 5 - 2))
        assert layer.materialise().constant <= 1.0, trial


@pytest.mark.parametrize("shape", [(7, 5), (5, 7), (6, 6)])
@pytest.mark.parametrize("name", [n for n in LAYERS if not LAYERS[n].own_relu])
def test_training_and_inference_compute_the_same_weight(name: str, shape: tuple[int, int]) -> None:
    """Power steps and short series are close to what they stand for."""
    torch.manual_seed(8)
    layer = make_dense(name, *shape).train()
    for _ in range(60):  # power iterations go on from call to call
        found = layer.matrix()
    torch.testing.assert_close(found, layer.eval().matrix(), rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize("layer", ["sandwich", "sll", "cpl"])
@pytest.mark.parametrize("activation", ["abs", "maxmin", "groupsort4", "householder"])
def test_wrong_combinations_are_refused_with_the_reason(layer: str, activation: str) -> None:
    with pytest.raises(BadInput, match=r"slopes in \[0, 1\].*choose an orthogonal layer"):
        check_pair(layer, activation)
    check_pair(layer, "relu")


def test_the_refusal_is_right() -> None:
    """Sandwich and SLL with |x| in place of the rectifier do stretch distances."""
    torch.manual_seed(6)
    worst = {"sandwich": 0.0, "sll": 0.0}
    for _ in range(30):
        sandwich = make_dense("sandwich", 4, 4).double()
        p, d = (m.detach() for m in sandwich.factors())
        inner = make_dense("sll", 4, 4).double()
        disturb(inner, 1.0)
        e = inner.inner().detach()
        signs = torch.sign(torch.randn(4, dtype=torch.float64))
        jacobians = {
            "sandwich": p @ torch.diag(signs) @ d,
            "sll": torch.eye(4) - e.mT @ torch.diag(signs) @ e,
        }
        for name, j in jacobians.items():
            worst[name] = max(worst[name], float(torch.linalg.matrix_norm(j, 2)))
    assert worst["sandwich"] > 1.05
    assert worst["sll"] > 1.5


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: make_conv("cayley", 2, 2, 3), "give the size"),
        (lambda: make_conv("cayley", 2, 2, 3, size=(6, 6), groups=2), "neither padding nor groups"),
        (lambda: make_conv("lot", 2, 2, 3, size=(7, 7), stride=2), "does not divide"),
        (lambda: make_conv("sll", 2, 4, 3), "residual"),
        (lambda: make_conv("aol", 3, 4, 3, groups=2), "do not divide"),
        (lambda: make_dense("cpl", 3, 4), "residual"),
        (lambda: make_dense("magic", 3, 4), "unknown layer"),
    ],
)
def test_what_a_method_cannot_do_is_said(make: Any, words: str) -> None:
    with pytest.raises(BadInput, match=words):
        make()


def test_a_layer_of_norm_slightly_above_one_is_scaled_down() -> None:
    """The case the issue names: 1.0001 in float32 must not pass as 1."""

    class Sloppy(DenseMap):
        def __init__(self) -> None:
            super().__init__(6, 6)
            self.q = torch.linalg.qr(torch.randn(6, 6)).Q

        def matrix(self) -> Any:
            return 1.0001 * self.q

    layer = Sloppy()
    assert proof.matrix_norm(layer.matrix().numpy()) > 1.00005
    made = layer.materialise()
    assert made.constant <= 1.0
    assert exact_gram_is_below_identity(made.body.weight.detach().numpy())


def test_norm_proofs_are_bounds_and_tight() -> None:
    rng = np.random.default_rng(7)
    for shape in [(3, 3), (8, 5), (5, 40), (1, 9)]:
        for scale in (1e-30, 1.0, 1e20):
            w = rng.standard_normal(shape) * scale
            true = float(np.linalg.norm(w, 2))
            assert true <= proof.matrix_norm(w) <= true * (1 + 1e-9)
    assert proof.matrix_norm(np.zeros((2, 3))) == 0.0
    assert proof.matrix_norm(np.array([[1.0, np.nan]])) == np.inf
    kernel = rng.standard_normal((4, 3, 3, 3))
    bound = proof.conv_norm(kernel)
    weight = torch.tensor(kernel)
    images = torch.eye(3 * 64, dtype=torch.float64).reshape(-1, 3, 8, 8)
    matrix = torch.nn.functional.conv2d(images, weight, padding=1).reshape(3 * 64, -1).mT
    true = float(torch.linalg.matrix_norm(matrix, 2))
    assert true <= bound <= 1.2 * true
