"""``verify verify``: the solver interface of VNN-LIB 2.0, chapter 5."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from bounds.errors import BadInput, QueryMismatch
from verifier.cli.options import INPUT_FILE, OUTPUT, check_output, query_options

if TYPE_CHECKING:
    from verifier.report.model import Report
    from verifier.spec.model import Property


class _Network(click.ParamType):  # pyright: ignore[reportMissingTypeArgument]  # generic in new click only
    """``NAME=FILE``, or just ``FILE`` for the only network."""

    name = "name=file"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, Path]:
        if isinstance(value, tuple):
            return value  # click converts defaults twice
        # a file whose own name holds '=' is taken as it is
        name, found, file = ("", "=", value) if Path(value).is_file() else str(value).partition("=")
        if not found:
            name, file = "", name
        return name, Path(os.fsdecode(INPUT_FILE.convert(file, param, ctx)))


NETWORK: Final = _Network()


def unique(networks: tuple[tuple[str, Path], ...]) -> dict[str, Path]:
    """The ``NAME=FILE`` pairs as a mapping.

    Raises:
        BadInput: a name is given twice.
    """
    models: dict[str, Path] = {}
    for name, file in networks:
        if name in models:
            raise BadInput(f"network '{name}' is given twice: {models[name]} and {file}; give it once")
        models[name] = file
    return models


@click.command("verify")
@click.argument("query", type=INPUT_FILE)
@click.option(
    "--network",
    "networks",
    type=NETWORK,
    multiple=True,
    help="NAME=FILE: the ONNX model of a declared network; once for each that has no 'equal-to'.",
)
@query_options("timeout", "seed", "max_domains", "memory")
@click.option(
    "--serialise-assignments",
    "--assignments",
    "folder",
    type=OUTPUT,
    help="Write the assignment of a 'sat' into this folder, one TensorProto file VARIABLE.pb each, "
    "instead of printing it.",
)
@click.option("--certificate", type=OUTPUT, help="Write a proof that 'verify check' can check again.")
@click.option("--json", "json_file", type=OUTPUT, help="Write the report as JSON.")
def verify(
    query: Path,
    networks: tuple[tuple[str, Path], ...],
    folder: Path | None,
    certificate: Path | None,
    json_file: Path | None,
    **values: Any,
) -> int:
    """Decide QUERY as chapter 5 of the VNN-LIB 2.0 standard describes.

    The declared element types say what the answer is about: 'real' the network over the reals,
    'float32' the network as float32 arithmetic computes it (integer types may occur next to it). Other
    types are refused. A VNN-LIB 1.0 query is accepted too; its one network may have any name.
    """
    from verifier.cli.session import ask, load_property, publish

    inputs = (query, *(file for _, file in networks))
    check_output(certificate, flag="--certificate", inputs=inputs)
    check_output(json_file, flag="--json", inputs=inputs)
    check_folder(folder)
    spec, options = load_property(query, values)
    models = bind(spec, unique(networks))
    report, code = ask(models, spec, options, certificate=certificate)
    if folder is not None:
        serialise(folder, report, spec)
    publish(report, spec, json=json_file, values=folder is None)
    return code


def bind(spec: Property, given: Mapping[str, Path]) -> dict[str, Path]:
    """Fits the ``--network`` files to the declared networks.

    Raises:
        QueryMismatch: a file is missing or not asked for.
    """
    if spec.language != "vnnlib-2":  # version 1.0 declares nothing and has one unnamed network
        if len(given) != 1:
            raise QueryMismatch(f"{spec.source}: a VNN-LIB 1.0 query needs one --network, not {len(given)}")
        return {"": next(iter(given.values()))}
    wanted = [n.name for n in spec.networks if n.relation != "equal"]
    if len(wanted) == 1 and set(given) == {""}:
        return {wanted[0]: given[""]}
    for name in wanted:
        if name not in given:
            raise QueryMismatch(
                f"{spec.source}: network '{name}' is declared but not given; add --network {name}=FILE"
            )
    for name in given:
        if name not in wanted:
            equal = any(n.name == name for n in spec.networks)
            why = "is declared equal-to another" if equal else "is not declared"
            raise QueryMismatch(f"{spec.source}: network '{name}' {why}; remove --network {name}=...")
    return dict(given)


def check_folder(folder: Path | None) -> None:
    """Refuses, before any work, a folder that cannot be made."""
    if folder is not None and not folder.is_dir():
        check_output(folder, flag="--serialise-assignments")
        if folder.exists():
            raise BadInput(f"--serialise-assignments {folder}: is a file; give a folder")


def serialise(folder: Path, report: Report, spec: Property) -> None:
    """Writes the witness as TensorProto files, one for each declared variable."""
    if report.witness is None:
        return
    import numpy as np
    from onnx import numpy_helper

    from verifier.report.emit.assignment import declared

    folder.mkdir(exist_ok=True)
    for variable, values in declared(spec, report.witness.x, report.witness.y):
        if variable.element.startswith(("int", "uint", "bool")):
            array = np.array([int(v) for v in values], dtype=variable.element).reshape(variable.shape)
        else:
            exact = np.array([float(v) for v in values], dtype=np.float64)
            # a real that is no float32 would change by rounding, so it is written as float64
            single = variable.element == "float32" or bool((exact.astype(np.float32) == exact).all())
            array = exact.astype(np.float32 if single else np.float64).reshape(variable.shape)
        (folder / f"{variable.name}.pb").write_bytes(
            numpy_helper.from_array(array, variable.name).SerializeToString()
        )
