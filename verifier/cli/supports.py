"""``verify supports``: the capabilities, as chapter 5 of the VNN-LIB 2.0 standard asks for them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import click

from verifier.cli.session import ELEMENT_TYPES


def _opsets() -> list[str]:
    from onnx.defs import onnx_opset_version

    from bounds.io.onnx import OLDEST_OPSET

    return [str(OLDEST_OPSET), str(onnx_opset_version())]


def _operators() -> list[str]:
    from bounds.io.onnx_ops import BUILDERS

    return sorted(BUILDERS)


def _vnnlib_versions() -> list[str]:
    from importlib.util import find_spec

    # version 2.0 is read by the official parser, which is an optional package
    return ["1.0", "2.0" if find_spec("vnnlib") else "1.0"]


def _words(*words: str) -> Callable[[], list[str]]:
    return lambda: list(words)


# capability -> (other spellings, what it prints, help)
CAPABILITIES: Final[dict[str, tuple[tuple[str, ...], Callable[[], list[str]], str]]] = {
    "onnx-opset-versions": ((), _opsets, "Oldest and newest ONNX operator set."),
    "onnx-element-types": ((), _words(*ELEMENT_TYPES), "Element types that the analysis is sound for."),
    "onnx-operators": ((), _operators, "ONNX operators."),
    "vnnlib-versions": ((), _vnnlib_versions, "Oldest and newest VNN-LIB version."),
    "hidden-node-theories": ((), _words("NH", "H"), "Hidden nodes."),
    "multiple-input-output-theories": (
        ("--multiple-inputs-output-theories",),  # the standard's own example spells it so
        _words("SIO", "MIO"),
        "Several inputs and outputs.",
    ),
    "multiple-network-theories": ((), _words("SNET", "MENET", "MINET", "MNET"), "Several networks."),
    "multiple-node-comparison-theories": ((), _words("SNC", "MNC"), "Comparisons between nodes."),
    "arithmetic-complexity-theories": ((), _words("BND", "OUTC", "LIN", "POLY"), "Arithmetic in assertions."),
    "optimised-disjunctive-reasoning": (
        (),
        _words("false"),
        "Whether '(or ...)' is more than expanded (it is expanded to disjunctive normal form).",
    ),
    "serialise-assignments": ((), _words("true"), "Whether 'verify --serialise-assignments' works."),
}


def _options(command: Callable[..., Any]) -> Callable[..., Any]:
    for name, (others, _, text) in reversed(CAPABILITIES.items()):
        command = click.option(f"--{name}", *others, name.replace("-", "_"), is_flag=True, help=text)(command)
    return command


@click.command("supports")
@_options
def supports(**asked: bool) -> int:
    """Print one capability, one item a line."""
    names = [name for name in CAPABILITIES if asked[name.replace("-", "_")]]
    if len(names) != 1:
        raise click.UsageError(
            "name one capability" if not names else "name one capability at a time",
            click.get_current_context(),
        )
    for line in CAPABILITIES[names[0]][1]():
        click.echo(line)
    return 0
