"""Stored tensors and attributes of an ONNX file as plain values; external data under guard."""

from __future__ import annotations

import math
from pathlib import Path, PurePosixPath
from typing import Any

import onnx
from onnx import numpy_helper

from bounds.errors import LimitExceeded, ModelInvalid
from bounds.io.limits import Limits
from bounds.io.onnx_ops.constant import ELEMENT_TYPES, canonical
from bounds.io.values import Const


def constant_of(tensor: onnx.TensorProto, where: str, limits: Limits) -> Const:
    """Reads a stored tensor exactly (floats of every width in float64).

    Raises:
        ModelInvalid: sizes and data contradict each other, or the element type holds no numbers.
        LimitExceeded: larger than ``limits.tensor_bytes``.
    """
    dtype = ELEMENT_TYPES.get(tensor.data_type)
    if dtype is None:
        raise ModelInvalid(
            f"{where}: element type {tensor.data_type} holds no plain numbers; store it as float32"
        )
    if tensor.data_location == onnx.TensorProto.EXTERNAL:
        raise ModelInvalid(
            f"{where}: external data is only allowed for initializers; store the tensor in the model"
        )
    check_size(tensor, where, limits)
    try:
        return canonical(numpy_helper.to_array(tensor), dtype, tensor.name)
    except (ValueError, TypeError, KeyError, ArithmeticError) as error:
        raise ModelInvalid(f"{where}: malformed tensor ({_line(error)}); export the model again") from None


def check_size(tensor: onnx.TensorProto, where: str, limits: Limits) -> None:
    """Refuses negative dimensions and tensors over the limit."""
    if any(d < 0 for d in tensor.dims):
        raise ModelInvalid(f"{where}: negative dimension in {list(tensor.dims)}; export the model again")
    size = math.prod(tensor.dims) * 8
    if size > limits.tensor_bytes:
        raise LimitExceeded(
            f"{where}: takes {size} bytes, over the limit of {limits.tensor_bytes}; raise the limit"
        )


def attribute_value(attribute: onnx.AttributeProto, where: str, limits: Limits) -> Any:
    """A number, bytes, list of these, or a constant; None for graphs, types and sparse tensors."""
    kind = onnx.AttributeProto
    match attribute.type:
        case kind.FLOAT:
            return attribute.f
        case kind.INT:
            return attribute.i
        case kind.STRING:
            return attribute.s
        case kind.TENSOR:
            return constant_of(attribute.t, f"{where}, attribute '{attribute.name}'", limits)
        case kind.FLOATS:
            return list(attribute.floats)
        case kind.INTS:
            return list(attribute.ints)
        case kind.STRINGS:
            return list(attribute.strings)
        case _:
            return None


def inline_external(graph: onnx.GraphProto, directory: Path | None, path: str, limits: Limits) -> list[bytes]:
    """Loads external initializers into the model; returns their bytes in order.

    A location must be a plain relative path that stays inside the model's own directory, also after
    following links: a model must not be able to read other files.
    """
    blobs: list[bytes] = []
    for tensor in graph.initializer:
        if tensor.data_location != onnx.TensorProto.EXTERNAL:
            continue
        where = f"{path}: tensor '{tensor.name}'"
        check_size(tensor, where, limits)
        blob = _external_bytes(tensor, directory, where, limits)
        del tensor.external_data[:]
        tensor.data_location = onnx.TensorProto.DEFAULT
        tensor.raw_data = blob
        blobs.append(blob)
        if sum(map(len, blobs)) > limits.decompressed_bytes:
            raise LimitExceeded(
                f"{where}: external data exceeds {limits.decompressed_bytes} bytes; raise the limit"
            )
    return blobs


def _external_bytes(tensor: onnx.TensorProto, directory: Path | None, where: str, limits: Limits) -> bytes:
    fields = {entry.key: entry.value for entry in tensor.external_data}
    location = fields.get("location", "")
    file = _safe_file(location, directory, where)
    try:
        offset, length = int(fields.get("offset", "0")), int(fields.get("length", "-1"))
        size = file.stat().st_size
        length = size - offset if "length" not in fields else length
        if offset < 0 or length < 0 or offset + length > size:
            raise ValueError(f"offset {offset} and length {length} lie outside its {size} bytes")
        if length > limits.tensor_bytes:
            raise LimitExceeded(
                f"{where}: external data takes {length} bytes, over the limit of {limits.tensor_bytes}"
            )
        with file.open("rb") as stream:
            stream.seek(offset)
            return stream.read(length)
    except (OSError, ValueError) as error:
        raise ModelInvalid(
            f"{where}: external data '{location}' cannot be read ({_line(error)}); "
            "put the file next to the model"
        ) from None


def _safe_file(location: str, directory: Path | None, where: str) -> Path:
    relative = PurePosixPath(location)
    plain = location and "\\" not in location and "\0" not in location and ":" not in location
    if directory is None or not plain or relative.is_absolute() or ".." in relative.parts:
        raise ModelInvalid(
            f"{where}: external data location '{location}' is not a plain path inside the model's directory; "
            "put the file next to the model"
        )
    root = directory.resolve()
    file = (root / relative).resolve()
    if not file.is_relative_to(root):
        raise ModelInvalid(
            f"{where}: external data '{location}' leads out of the model's directory; copy the file there"
        )
    if not file.is_file():
        raise ModelInvalid(f"{where}: external data file '{location}' is missing; put it next to the model")
    return file


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
