"""A property against a network's ports."""

import pytest

from bounds.errors import QueryMismatch
from verifier.spec.bind import bind
from verifier.spec.model import NetworkRef, Property, Variable
from verifier.spec.monotone import monotone
from verifier.spec.region import box


def flat(inputs, outputs):
    return Property((Variable("X", "input", (inputs,)), Variable("Y", "output", (outputs,))), ())


F_ONLY = (NetworkRef("f"),)


def declared(*variables, networks=F_ONLY):
    return Property(variables, (), networks, "vnnlib-2")


X = Variable("X", "input", (1, 2), "float32", "f")
H = Variable("H", "hidden", (4,), "float32", "f", "relu_out")
Y = Variable("Y", "output", (3,), "float32", "f")
IN, OUT, MID = ("in", (1, 2), "float32"), ("out", (3,), "float32"), ("relu_out", (4,), "float32")


def test_flat_properties_need_only_sizes():
    found = bind(
        flat(5, 3), [("a", (1, 2), "float32"), ("b", ("N", 3), "float32")], [("o", (None, 3), "float64")]
    )
    assert found == {"X": ("a", "b"), "Y": ("o",)}
    assert bind(flat(1, 1), [("a", (), "float32")], [("o", (0,), "float32")]) == {"X": ("a",), "Y": ("o",)}


def test_flat_mismatch_names_both_sides():
    with pytest.raises(QueryMismatch, match=r"declares 6 inputs, model has 5 \(in \[1,\?,5\]\); check"):
        bind(flat(6, 1), [("in", (1, None, 5), "float32")], [("o", (1,), "float32")])
    with pytest.raises(QueryMismatch, match="property declares 2 outputs, model has 1"):
        bind(flat(5, 2), [("in", (5,), "float32")], [("o", (1,), "float32")])


def test_declared_tensors_bind_one_to_one():
    assert bind(declared(X, H, Y), [IN], [OUT], hidden=[MID]) == {
        "X": ("in",),
        "H": ("relu_out",),
        "Y": ("out",),
    }
    real = [Variable(v.name, v.kind, v.shape, "real", "f") for v in (X, Y)]
    assert bind(declared(*real), [("in", ("batch", 2), "float64")], [OUT]) == {"X": ("in",), "Y": ("out",)}


@pytest.mark.parametrize(
    ("inputs", "outputs", "hidden", "message"),
    [
        ([IN, IN], [OUT], [MID], r"property declares 1 input tensors, model has 2 \(in, in\); declare all"),
        ([("in", (2,), "float32")], [OUT], [MID], r"input X has shape \[1,2\] .* 'in' is \[2\] in the model"),
        ([("in", (2, 1), "float32")], [OUT], [MID], r"'in' is \[2,1\]"),
        ([IN], [("out", (3,), "float64")], [MID], "output Y has element type float32 .* 'out' is float64"),
        ([IN], [OUT], [], "hidden H for node output 'relu_out', model has none"),
        ([IN], [OUT], [("relu_out", (5,), "float32")], r"hidden H has shape \[4\]"),
    ],
)
def test_declared_mismatches(inputs, outputs, hidden, message):
    with pytest.raises(QueryMismatch, match=message):
        bind(declared(X, H, Y), inputs, outputs, hidden=hidden)


def test_equal_networks_bind_together():
    prop = monotone(box([0, 0], [1, 1]), input_index=0, output_index=0, outputs=3)
    found = bind(prop, [IN], [OUT])
    assert found == {"X": ("in",), "Y": ("out",), "X2": ("in",), "Y2": ("out",)}


def test_independent_networks_bind_by_name():
    other = [Variable("X2", "input", (1, 2), "float32", "g"), Variable("Y2", "output", (3,), "float32", "g")]
    prop = declared(X, Y, *other, networks=(NetworkRef("f"), NetworkRef("g", "isomorphic", "f")))
    assert bind(prop, [IN], [OUT], network="g") == {"X2": ("in",), "Y2": ("out",)}
    with pytest.raises(QueryMismatch, match=r"declares 2 independent networks \(f, g\), one model is given"):
        bind(prop, [IN], [OUT])
    with pytest.raises(QueryMismatch, match="declares no network 'h'; it declares f, g"):
        bind(prop, [IN], [OUT], network="h")
    with pytest.raises(QueryMismatch, match="network g is declared equal to another; give models only for f"):
        copies = monotone(box([0], [1]), input_index=0, output_index=0, outputs=1)
        bind(copies, [IN], [OUT], network="g")
