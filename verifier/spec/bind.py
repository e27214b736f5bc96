"""Matches a property's declared tensors with a network's ports."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

from bounds.errors import QueryMismatch

from .model import Property, Variable

# name, shape (None or a string stands for a dimension that is not fixed), element type
Port: TypeAlias = tuple[str, Sequence[int | str | None], str]


def bind(
    prop: Property,
    inputs: Sequence[Port],
    outputs: Sequence[Port],
    *,
    network: str | None = None,
    hidden: Sequence[Port] = (),
) -> dict[str, tuple[str, ...]]:
    """Checks that a property talks about a network of this form.

    Args:
        prop: the property.
        inputs: the network's input ports, in order.
        outputs: its output ports, in order.
        network: which of the property's networks this is; needed only when several are independent.
            Networks declared equal to it are bound along with it.
        hidden: values inside the network that ``declare-hidden`` may name.

    Returns:
        For each variable of the property the port it stands for. In a property without networks'
        names (VNN-LIB 1.0, or built) ``X`` and ``Y`` stand for all inputs and all outputs,
        flattened one after the other.

    Raises:
        QueryMismatch: with both sides and what to do.
    """
    root = _root(prop, network)
    found: dict[str, tuple[str, ...]] = {}
    for ref in prop.networks:
        if ref.name != root and not (ref.relation == "equal" and ref.same_as == root):
            continue
        mine = [v for v in prop.variables if v.network == ref.name]
        for kind, ports in (("input", inputs), ("output", outputs)):
            declared = [v for v in mine if v.kind == kind]
            strict = prop.language == "vnnlib-2"
            found |= _strict(declared, ports, kind) if strict else _flat(declared, ports, kind)
        for variable in mine:
            if variable.kind == "hidden":
                found[variable.name] = (_hidden(variable, hidden),)
    return found


def _root(prop: Property, network: str | None) -> str:
    independent = [n.name for n in prop.networks if n.relation != "equal"]
    if network is None:
        if len(independent) == 1:
            return independent[0]
        names = ", ".join(independent)
        what = f"the property declares {len(independent)} independent networks ({names}), one model is given"
        raise QueryMismatch(f"{what}; give one model for each: --network NAME=MODEL")
    if network in independent:
        return network
    names = ", ".join(independent)
    if any(n.name == network for n in prop.networks):
        raise QueryMismatch(f"network {network} is declared equal to another; give models only for {names}")
    raise QueryMismatch(
        f"the property declares no network {network!r}; it declares {names or 'one without a name'}"
    )


def _size(shape: Sequence[int | str | None]) -> int:
    """Number of elements; a dimension that is not fixed counts as one (a batch of one)."""
    total = 1
    for s in shape:
        total *= s if isinstance(s, int) and s > 0 else 1
    return total


def _flat(declared: list[Variable], ports: Sequence[Port], kind: str) -> dict[str, tuple[str, ...]]:
    """All variables of a kind against all ports: only the number of elements must agree."""
    wanted, given = sum(v.size for v in declared), sum(_size(shape) for _, shape, _ in ports)
    if wanted != given:
        shapes = ", ".join(f"{name} {_show(shape)}" for name, shape, _ in ports)
        what = f"property declares {wanted} {kind}s, model has {given} ({shapes})"
        raise QueryMismatch(f"{what}; check that the two files belong together")
    return {v.name: tuple(name for name, _, _ in ports) for v in declared}


def _strict(declared: list[Variable], ports: Sequence[Port], kind: str) -> dict[str, tuple[str, ...]]:
    """VNN-LIB 2.0: one variable per port, in order, with equal shapes and element types."""
    if len(declared) != len(ports):
        names = ", ".join(name for name, _, _ in ports)
        what = f"property declares {len(declared)} {kind} tensors, model has {len(ports)} ({names})"
        raise QueryMismatch(f"{what}; declare all of them in the model's order")
    for variable, port in zip(declared, ports, strict=True):
        _check(variable, port, f"{kind} {variable.name}")
    return {v.name: (port[0],) for v, port in zip(declared, ports, strict=True)}


def _hidden(variable: Variable, hidden: Sequence[Port]) -> str:
    for port in hidden:
        if port[0] == variable.onnx:
            _check(variable, port, f"hidden {variable.name}")
            return port[0]
    what = f"property declares hidden {variable.name} for node output {variable.onnx!r}, model has none"
    raise QueryMismatch(f"{what} of that name; check the declaration against the model")


def _check(variable: Variable, port: Port, what: str) -> None:
    name, shape, element = port
    same_rank = len(shape) == len(variable.shape)
    fits = same_rank and all(
        s == v or not isinstance(s, int) or s <= 0 for s, v in zip(shape, variable.shape, strict=True)
    )
    if not fits:
        shapes = f"{_show(variable.shape)} in the property but '{name}' is {_show(shape)} in the model"
        raise QueryMismatch(f"{what} has shape {shapes}; correct the declaration")
    if variable.element not in {"real", element}:
        types = f"{variable.element} in the property but '{name}' is {element} in the model"
        raise QueryMismatch(f"{what} has element type {types}; declare {element}, or real everywhere")


def _show(shape: Sequence[int | str | None]) -> str:
    return "[" + ",".join("?" if s is None else str(s) for s in shape) + "]"
