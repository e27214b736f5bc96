"""Trains a torque controller of a pendulum and writes the closed loop as one network, with its properties.

    python examples/control/train.py          # needs PyTorch; some seconds; writes the files beside this one

The pendulum stands upright at angle 0 (in rad); the angular velocity is in rad/s, the torque is saturated at
3 Nm, a push of the wind is added to it. One step of ``DT`` seconds:

    angle'    = angle + DT * velocity
    velocity' = velocity + DT * (9.81 sin(angle) - 0.3 velocity + torque + push)

The set that the state must never leave is a parallelogram: states ``x = T z`` with ``z`` in [-1, 1]^2, whose
sides lie along the slow and the fast mode of the loop. ``closed_loop.onnx`` maps ``(z, push)`` to the next
``z``, so "the set is never left" is a property of one network: for every z in the square and every push,
z' is in the square again. By induction it is then true of all times.
"""

from __future__ import annotations

import io
import warnings
from pathlib import Path

import numpy as np
import onnx
import torch
from torch import Tensor, nn

HERE = Path(__file__).parent
DT, GRAVITY, FRICTION, MOST = 0.05, 9.81, 0.3, 3.0
PUSH = 0.1  # Nm, the strongest wind it is trained for
ANGLE = 0.1  # rad, how far each mode may reach
SLOW, FAST = -2.0, -5.0  # 1/s: velocity = rate * angle along a mode
T = torch.tensor([[ANGLE, ANGLE], [ANGLE * SLOW, ANGLE * FAST]])


class Controller(nn.Module):
    """Two rectified layers and a saturation, made of rectifiers as well."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(2, 24), nn.ReLU(), nn.Linear(24, 24), nn.ReLU(), nn.Linear(24, 1))

    def forward(self, state: Tensor) -> Tensor:
        """Torque in Nm for states ``N 2``."""
        return 2 * MOST - torch.relu(2 * MOST - torch.relu(self.body(state) + MOST)) - MOST


class ClosedLoop(nn.Module):
    """One step, in the coordinates of the set; the push is the third input."""

    def __init__(self, controller: nn.Module) -> None:
        super().__init__()
        self.controller = controller
        self.register_buffer("there", T.T.clone())
        self.register_buffer("back", torch.linalg.inv(T).T.clone())

    def forward(self, z: Tensor) -> Tensor:
        """``N 3`` to ``N 2``."""
        state = z[:, :2] @ self.there
        angle, velocity = state[:, :1], state[:, 1:]
        torque = self.controller(state) + z[:, 2:]
        faster = velocity + DT * (GRAVITY * torch.sin(angle) - FRICTION * velocity + torque)
        return torch.cat([angle + DT * velocity, faster], dim=1) @ self.back


def train(loop: ClosedLoop, *, steps: int = 1500) -> None:
    """Pushes the next state inwards wherever it is near the border, and keeps the torque small."""
    optimiser = torch.optim.Adam(loop.parameters(), lr=5e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    for _ in range(steps):
        z = torch.rand(512, 3) * 2 - 1
        z[:256, :2] /= z[:256, :2].abs().amax(dim=1, keepdim=True)  # on the border
        z[:, 2] *= PUSH
        following = loop(z)
        effort = loop.controller(z[:, :2] @ loop.there).square().mean()
        loss = torch.relu(following.abs() - 0.9).square().sum(dim=1).mean() * 100 + 1e-3 * effort
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    print(f"loss {loss.item():.2e}, farthest {following.abs().max().item():.3f}")


def export(loop: ClosedLoop, path: Path) -> None:
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own deprecations
        torch.onnx.export(
            loop.eval(), (torch.zeros(1, 3),), buffer, dynamo=False, opset_version=17,
            input_names=["z"], output_names=["z_next"],
        )  # fmt: skip
    model = onnx.load_from_string(buffer.getvalue())
    for node in model.graph.node:
        node.ClearField("doc_string")
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)


def write_property(path: Path, push: float, says: str) -> None:
    """What must not happen: a state of the set, a push allowed, and the next state not in the set."""
    lines = [f"; {says}", ""]
    lines += [f"(declare-const X_{i} Real)" for i in range(3)] + [
        f"(declare-const Y_{i} Real)" for i in range(2)
    ]
    for i, bound in enumerate((1, 1, push)):
        lines += [f"(assert (>= X_{i} -{bound}))", f"(assert (<= X_{i} {bound}))"]
    lines += ["(assert (or", *(f"  (and ({r} 1))" for r in ("> Y_0", "> Y_1"))]
    lines += [*(f"  (and ({r} -1))" for r in ("< Y_0", "< Y_1")), "))", ""]
    path.write_text("\n".join(lines), encoding="utf-8")


def main() -> None:
    torch.manual_seed(0)
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    loop = ClosedLoop(Controller())
    train(loop)
    export(loop, HERE / "closed_loop.onnx")
    write_property(
        HERE / "stays_unsat.vnnlib", PUSH, f"pushed by up to {PUSH} Nm, the pendulum never leaves the set"
    )
    write_property(
        HERE / "gale_sat.vnnlib", 1.0, "the same for pushes of up to 1 Nm, which is too much to ask"
    )
    # a look from outside: random states and pushes, many steps
    z = torch.rand(2000, 2) * 2 - 1
    for _ in range(200):
        push = (torch.rand(len(z), 1) * 2 - 1) * PUSH
        with torch.no_grad():
            z = loop(torch.cat([z, push], dim=1))
    print(f"after 200 steps of 2000 runs the farthest is at {np.abs(z.numpy()).max():.3f}")


if __name__ == "__main__":
    main()
