"""Models and samples as people hold them in tests: files and modules, arrays and tensors."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bounds.errors import BadInput, ModelInvalid, ModelUnsupported
from bounds.graph import Array
from bounds.io.onnx import Model, load
from sdp.modules import is_module, model_of
from verifier.robustness.points import plans, scores


@dataclass(frozen=True, slots=True)
class Samples:
    """Labelled samples.

    Attributes:
        x: ``N *x`` float64, exactly the numbers given.
        labels: ``N`` whole numbers.
        single: whether one sample was given, without a batch axis.
    """

    x: Array
    labels: Array
    single: bool

    @property
    def flat(self) -> Array:
        """``N inputs``."""
        return self.x.reshape(len(self.x), -1)


def as_array(value: Any, what: str) -> Array:
    """Numbers as float64, exactly; tensors from any device, with or without gradients.

    Raises:
        BadInput: no numbers, or some are not finite.
    """
    array = _numbers(value, what)
    if not bool(np.isfinite(array).all()):
        raise BadInput(f"{what} holds a NaN or an infinite number; nothing can be proved around it")
    return array


def _numbers(value: Any, what: str) -> Array:
    if hasattr(value, "detach"):  # a tensor; bfloat16 has no numpy type, and float64 holds it exactly
        value = value.detach().cpu().double().numpy()
    try:
        array = np.asarray(value)
        if array.dtype.kind not in "biuf":
            raise ValueError(array.dtype)
        return array.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise BadInput(f"{what} holds no numbers ({error}); give an array or a tensor of them") from None


def samples_of(x: Any, y: Any) -> Samples:
    """One sample with one label (no batch axis), or a batch with as many labels.

    Raises:
        BadInput: there is no sample, or labels and samples do not fit.
    """
    points, labels = as_array(x, "x"), as_array(y, "y")
    if not bool((labels == np.floor(labels)).all()):
        raise BadInput("y holds a number that is no whole one; give class indices")
    if labels.ndim == 0:
        return Samples(points[None], labels.astype(np.int64)[None], True)
    if labels.ndim != 1:
        raise BadInput(f"y has the shape {labels.shape}; give one class index for each sample")
    if not len(labels):
        raise BadInput("x holds no sample, and a test of none would always pass; give at least one")
    if points.ndim == 0 or len(points) != len(labels):
        count = len(points) if points.ndim else 0
        raise BadInput(f"x holds {count} samples and y {len(labels)} labels; give equally many")
    return Samples(points, labels.astype(np.int64), False)


def classifier(model: Any, samples: Samples) -> Model:
    """The network of a model, checked against the samples.

    Raises:
        BadInput: not a model, several inputs, or samples or labels that do not fit it.
        ModelUnsupported, ModelInvalid: the network cannot be read.
    """
    found = _module(model, samples) if is_module(model) else _file(model)
    graph = found.graph
    if len(graph.inputs) != 1:
        raise BadInput(f"{found.path}: has {len(graph.inputs)} inputs; a classifier of samples has one")
    if samples.flat.shape[1] != graph.input_size:
        hint = "; give y as a list for a batch" if samples.single and samples.x.shape[1:][:1] == (1,) else ""
        raise BadInput(
            f"a sample has {samples.flat.shape[1]} numbers (shape {samples.x.shape[1:]}), {found.path} takes "
            f"{graph.input_size} (shape {graph.inputs[0].shape}){hint}"
        )
    wrong = samples.labels[(samples.labels < 0) | (samples.labels >= graph.output_size)]
    if len(wrong):
        raise BadInput(
            f"y holds the class {wrong[0]}; {found.path} has the outputs 0 to {graph.output_size - 1}"
        )
    return found


def _file(model: Any) -> Model:
    if isinstance(model, Model):
        return model
    if not isinstance(model, str | Path):
        raise BadInput(
            f"a {type(model).__name__} is no model; give an ONNX file, a loaded Model or a torch.nn.Module"
        )
    return load(model)


def _module(module: Any, samples: Samples) -> Model:
    """The module's network for batches of one."""
    example = _tensor(module, samples.x[:1])
    try:
        return model_of(module, example)
    except ModelUnsupported:
        if samples.single and samples.x.ndim > 2 and samples.x.shape[1] == 1:
            raise BadInput(
                f"the module refuses one sample of shape {samples.x.shape[1:]}; if its first axis is the "
                f"batch, give y as a list: [{samples.labels[0]}]"
            ) from None
        raise


def _tensor(module: Any, values: Array) -> Any:
    import torch

    like = next((p for p in module.parameters() if p.is_floating_point()), torch.zeros(()))
    return torch.as_tensor(values).to(dtype=like.dtype, device=like.device)


def check_export(module: Any, model: Model, points: Array) -> None:
    """Checks that an exported network computes what the module computes, at points ``N *x``.

    An export records what was run: of a branch that depends on the data it keeps one side. The proof is
    about the export, so a difference beyond what rounding can do (by the rigorous error analysis, doubled
    as export may fold weights) is an error. It guards against such modules; no verdict rests on it.

    Raises:
        ModelInvalid: they differ.
    """
    import torch

    flags = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        with torch.no_grad():
            rounded = [_tensor(module, point[None]) for point in points]
            computed = np.stack([_numbers(module(one), "the module's output").reshape(-1) for one in rounded])
    finally:
        for part, flag in flags:
            part.training = flag
    at = np.stack([as_array(one, "x").reshape(-1) for one in rounded])
    low, high = scores(plans(model.graph, network=True)[0], at)
    slack = high - low
    # what overflowed or is not modelled has no enclosure and says nothing: a NaN of the slack compares false
    outside = (computed < low - slack) | (computed > high + slack) | (np.isnan(computed) & np.isfinite(slack))
    if bool(outside.any()):
        i, j = np.argwhere(outside)[0]
        raise ModelInvalid(
            f"{type(module).__name__}: its ONNX export computes another function: output {j} is "
            f"{computed[i, j]:.9g} from the module and in [{low[i, j]:.9g}, {high[i, j]:.9g}] from the "
            "export; replace what depends on the data (if, loops), or what is random"
        )
