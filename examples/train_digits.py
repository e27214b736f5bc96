"""Trains the example networks and writes them to ``examples/models/*.onnx``.

Three classifiers of scikit-learn's 8x8 digits (pixels scaled to [0, 1]) and a small pendulum
controller. The digits networks are trained against small adversarial perturbations, so that some
robustness is there to be proved. Everything is seeded and single-threaded: a second run on the same
machine with the same versions writes the same weights.

    pip install --group train && python examples/train_digits.py
"""

from __future__ import annotations

import logging
from pathlib import Path

import onnx
import torch
from digits import load
from torch import Tensor, nn
from torch.nn import functional as F

MODELS = Path(__file__).parent / "models"
ATTACK_RADIUS = 0.06
OPSET = 18


class Residual(nn.Module):
    """A convolution, one residual block with batch normalisation, and a linear read-out."""

    def __init__(self, channels: int = 6) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, channels, 3, stride=2, padding=1), nn.BatchNorm2d(channels))
        self.first = nn.Sequential(nn.Conv2d(channels, channels, 3, padding=1), nn.BatchNorm2d(channels))
        self.second = nn.Sequential(nn.Conv2d(channels, channels, 3, padding=1), nn.BatchNorm2d(channels))
        self.head = nn.Linear(channels * 16, 10)

    def forward(self, x: Tensor) -> Tensor:
        stem = F.relu(self.stem(x.reshape(-1, 1, 8, 8)))
        block = self.second(F.relu(self.first(stem)))
        return self.head(F.relu(stem + block).flatten(1))


def mlp() -> nn.Module:
    """64-32-32-10 with ReLU."""
    return nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 10))


def cnn() -> nn.Module:
    """Two strided convolutions and a linear read-out."""
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(8, 16, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(64, 10),
    )


def attack(model: nn.Module, x: Tensor, y: Tensor, radius: float, steps: int = 3) -> Tensor:
    """Projected gradient steps inside the intersection of the L-infinity ball and [0, 1]."""
    noise = torch.empty_like(x).uniform_(-radius, radius)
    adversarial = (x + noise).clamp(0, 1)
    for _ in range(steps):
        adversarial.requires_grad_(True)
        (gradient,) = torch.autograd.grad(F.cross_entropy(model(adversarial), y), adversarial)
        stepped = adversarial.detach() + radius / 2 * gradient.sign()
        adversarial = torch.max(torch.min(stepped, x + radius), x - radius).clamp(0, 1)
    return adversarial


def train_classifier(model: nn.Module, shape: tuple[int, ...], *, epochs: int = 40) -> None:
    """Adversarial training; prints the accuracy on the held-out images, clean and attacked."""
    train_x, train_y, test_x, test_y = (torch.from_numpy(a) for a in load())
    train_x, test_x = train_x.reshape(-1, *shape), test_x.reshape(-1, *shape)
    optimiser = torch.optim.Adam(model.parameters(), lr=5e-3, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, epochs)
    for epoch in range(epochs):
        radius = ATTACK_RADIUS * min(1.0, (epoch + 1) / (epochs / 2))
        for batch in torch.randperm(len(train_x)).split(64):
            x, y = train_x[batch], train_y[batch]
            model.eval()
            adversarial = attack(model, x, y, radius)
            model.train()
            loss = F.cross_entropy(model(adversarial), y)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        schedule.step()
    model.eval()
    with torch.no_grad():
        clean = (model(test_x).argmax(1) == test_y).float().mean()
    attacked = (model(attack(model, test_x, test_y, 0.03, 20)).argmax(1) == test_y).float().mean()
    print(f"  test accuracy {clean:.3f}, under attack (radius 0.03) {attacked:.3f}")


def pendulum_torque(state: Tensor) -> Tensor:
    """The controller to imitate: gravity compensation plus damping, saturated at +-1.

    ``state[:, 0]`` is the angle from upright in rad, ``state[:, 1]`` the angular velocity in rad/s.
    """
    torque = -1.2 * torch.sin(state[:, :1]) - 0.5 * state[:, 1:] - 0.3 * state[:, :1]
    return torque.clamp(-1, 1)


def train_controller(model: nn.Module, *, steps: int = 3000) -> None:
    """Imitates :func:`pendulum_torque` on [-1, 1] x [-2, 2]."""
    optimiser = torch.optim.Adam(model.parameters(), lr=5e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    scale = torch.tensor([1.0, 2.0])
    for _ in range(steps):
        state = (torch.rand(256, 2) * 2 - 1) * scale
        loss = F.mse_loss(model(state), pendulum_torque(state))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    print(f"  imitation error (mean square) {loss.item():.2e}")


def export(model: nn.Module, shape: tuple[int, ...], name: str) -> None:
    """Writes one self-contained ONNX file with fixed shapes."""
    path = MODELS / f"{name}.onnx"
    program = torch.onnx.export(
        model.eval(),
        (torch.zeros(shape),),
        dynamo=True,
        input_names=["x"],
        output_names=["y"],
        opset_version=OPSET,
        verbose=False,
    )
    assert program is not None
    proto = program.model_proto
    onnx.checker.check_model(proto, full_check=True)
    for node in proto.graph.node:
        node.ClearField("metadata_props")  # source paths of the training machine
        node.ClearField("doc_string")
    for value in [*proto.graph.value_info, *proto.graph.input, *proto.graph.output, *proto.graph.initializer]:
        value.ClearField("metadata_props")
    proto.graph.ClearField("metadata_props")
    proto.graph.name = name
    onnx.save(proto, path)
    print(f"  {path.name}: {path.stat().st_size} bytes, {', '.join(n.op_type for n in proto.graph.node)}")


def main() -> None:
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    MODELS.mkdir(exist_ok=True)
    builders = {
        "digits_mlp": (mlp, (64,)),
        "digits_cnn": (cnn, (1, 8, 8)),
        "digits_residual": (Residual, (64,)),
    }
    for name, (build, shape) in builders.items():
        print(name)
        torch.manual_seed(2)
        model = build()
        train_classifier(model, shape)
        export(model, (1, *shape), name)
    print("pendulum")
    torch.manual_seed(2)
    controller = nn.Sequential(
        nn.Linear(2, 32),
        nn.ReLU(),
        nn.Linear(32, 32),
        nn.ReLU(),
        nn.Linear(32, 32),
        nn.ReLU(),
        nn.Linear(32, 1),
    )
    train_controller(controller)
    export(controller, (1, 2), "pendulum")


if __name__ == "__main__":
    main()
