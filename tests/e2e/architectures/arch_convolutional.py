"""Perceptrons, convolutional networks, pooling, resizing, U-Nets."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from arch_catalogue import Lambda, architecture
from torch import Tensor, nn


class Residual(nn.Module):
    """A basic block with batch normalisation; a 1x1 convolution where the shape changes."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(),
            nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False), nn.BatchNorm2d(outputs),
        )  # fmt: skip
        self.skip = nn.Identity() if stride == 1 else nn.Conv2d(inputs, outputs, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.body(x) + self.skip(x))


class Dense(nn.Module):
    """A DenseNet block: every layer sees all the earlier ones."""

    def __init__(self, channels: int, growth: int, depth: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.Sequential(
                nn.BatchNorm2d(channels + i * growth), nn.ReLU(),
                nn.Conv2d(channels + i * growth, growth, 3, padding=1),
            ) for i in range(depth)
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = torch.cat([x, layer(x)], 1)
        return x


class UNet(nn.Module):
    """One level down, one up, a skip connection by concatenation."""

    def __init__(self, up: nn.Module) -> None:
        super().__init__()
        self.enter, self.low = nn.Conv2d(1, 2, 3, padding=1), nn.Conv2d(2, 2, 3, padding=1)
        self.up, self.leave = up, nn.Conv2d(4, 1, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        high = F.relu(self.enter(x))
        low = F.relu(self.low(F.max_pool2d(high, 2)))
        return self.leave(torch.cat([high, self.up(low)], 1))


class SqueezeExcite(nn.Module):
    """An inverted residual of MobileNetV3: expand, depthwise, gates from the channel means, project."""

    def __init__(self) -> None:
        super().__init__()
        self.expand, self.depthwise = nn.Conv2d(1, 4, 1), nn.Conv2d(4, 4, 3, padding=1, groups=4)
        self.squeeze, self.excite, self.project = nn.Conv2d(4, 2, 1), nn.Conv2d(2, 4, 1), nn.Conv2d(4, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        h = F.hardswish(self.depthwise(F.hardswish(self.expand(x))))
        gate = F.hardsigmoid(self.excite(F.relu(self.squeeze(F.adaptive_avg_pool2d(h, 1)))))
        return x + self.project(h * gate)


class ConvNeXt(nn.Module):
    """Depthwise convolution, LayerNorm over channels (last axis), two pointwise layers, layer scale."""

    def __init__(self) -> None:
        super().__init__()
        self.depthwise, self.norm = nn.Conv2d(2, 2, 3, padding=1, groups=2), nn.LayerNorm(2)
        self.wide, self.narrow = nn.Linear(2, 4), nn.Linear(4, 2)
        self.scale = nn.Parameter(torch.tensor([0.3, -0.4]))

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm(self.depthwise(x).permute(0, 2, 3, 1))
        return x + (self.scale * self.narrow(F.gelu(self.wide(h)))).permute(0, 3, 1, 2)


def classifier(*body: nn.Module, inside: int, outputs: int = 2) -> nn.Module:
    return nn.Sequential(*body, nn.Flatten(), nn.Linear(inside, outputs))


def padded(mode: str) -> nn.Module:
    return classifier(nn.Conv2d(1, 2, 3, padding=1, padding_mode=mode), nn.ReLU(), inside=18)


def pooled(pool: nn.Module, inside: int, *, before: nn.Module | None = None) -> nn.Module:
    return classifier(before or nn.Conv2d(1, 2, 3, padding=1), pool, inside=inside)


architecture(
    "mlp",
    lambda: nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 3)),
    (1, 4),
    by="dynamo legacy",
)
architecture(
    "cnn",
    lambda: classifier(
        nn.Conv2d(1, 3, 3, stride=2, padding=1), nn.ReLU(), nn.Conv2d(3, 2, 2), nn.ReLU(), inside=2
    ),
    (1, 1, 4, 4),
    by="dynamo legacy",
)
architecture(
    "cnn_depthwise",
    lambda: classifier(nn.Conv2d(2, 4, 3, groups=2, padding=1), nn.ReLU(), nn.Conv2d(4, 2, 1), inside=18),
    (1, 2, 3, 3),
    by="legacy",
    extra="dynamo",
)
architecture(
    "cnn_grouped",
    lambda: classifier(nn.Conv2d(4, 6, 2, groups=2), nn.ReLU(), nn.ChannelShuffle(2), inside=6),
    (1, 4, 2, 2),
)
architecture(
    "cnn_dilated",
    lambda: classifier(nn.Conv2d(1, 2, 3, dilation=2), nn.ReLU(), inside=2),
    (1, 1, 5, 5),
    by="legacy",
    extra="dynamo",
)
architecture(
    "cnn_transposed",
    lambda: classifier(
        nn.ConvTranspose2d(1, 2, 3, stride=2, padding=1, output_padding=1), nn.ReLU(), inside=32
    ),
    (1, 1, 2, 2),
    by="legacy",
    extra="dynamo",
)
architecture(
    "cnn_1d",
    lambda: classifier(
        nn.Conv1d(1, 3, 3, padding="same"), nn.BatchNorm1d(3), nn.ReLU(), nn.MaxPool1d(2), inside=9
    ),
    (1, 1, 6),
    by="legacy",
    extra="dynamo",
)
architecture(
    "cnn_transposed_1d",
    lambda: classifier(nn.ConvTranspose1d(2, 2, 3, stride=2, groups=2), nn.ReLU(), inside=14),
    (1, 2, 3),
    by="legacy",
    extra="dynamo",
)
architecture(
    "cnn_3d",
    lambda: classifier(nn.Conv3d(1, 2, 2), nn.BatchNorm3d(2), nn.ReLU(), nn.AvgPool3d((1, 2, 2)), inside=2),
    (1, 1, 2, 3, 3),
)
architecture(
    "cnn_transposed_3d",
    lambda: classifier(nn.ConvTranspose3d(1, 1, 2, stride=(1, 2, 1)), nn.ReLU(), inside=36),
    (1, 1, 2, 2, 2),
    by="legacy",
    extra="dynamo",
)
for mode in ("reflect", "replicate", "circular"):
    architecture(
        f"cnn_padding_{mode}", lambda mode=mode: padded(mode), (1, 1, 3, 3), by="legacy", extra="dynamo"
    )
architecture(
    "resnet",
    lambda: classifier(
        nn.Conv2d(1, 2, 3, padding=1), Residual(2, 2), Residual(2, 4, 2), nn.AdaptiveAvgPool2d(1), inside=4
    ),
    (1, 1, 4, 4),
    by="dynamo legacy",
    radius=0.02,
)
architecture(
    "densenet",
    lambda: classifier(
        nn.Conv2d(1, 2, 3, padding=1),
        Dense(2, 2, 2),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.AvgPool2d(2),
        inside=24,
    ),
    (1, 1, 4, 4),
    radius=0.02,
    by="legacy",
    extra="dynamo",
)
architecture("mobilenet_squeeze_excite", SqueezeExcite, (1, 1, 3, 3), radius=0.02)
architecture("convnext", ConvNeXt, (1, 2, 2, 2), radius=0.02)
architecture("unet_nearest", lambda: UNet(nn.Upsample(scale_factor=2)), (1, 1, 4, 4), extra="legacy")
architecture(
    "unet_bilinear",
    lambda: UNet(nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False)),
    (1, 1, 4, 4),
    by="dynamo legacy",
)
architecture(
    "unet_bilinear_aligned",
    lambda: UNet(nn.Upsample(size=(4, 4), mode="bilinear", align_corners=True)),
    (1, 1, 4, 4),
    by="legacy",
    extra="dynamo",
)
architecture(
    "unet_transposed", lambda: UNet(nn.ConvTranspose2d(2, 2, 2, 2)), (1, 1, 4, 4), by="legacy", extra="dynamo"
)
architecture(
    "upsample_1d_3d",
    lambda: Lambda(
        lambda x: (
            F.interpolate(x, scale_factor=2, mode="linear").relu().flatten(1),
            F.interpolate(x.reshape(1, 1, 1, 2, 2), scale_factor=2, mode="trilinear").relu().flatten(1),
            F.interpolate(x.reshape(1, 1, 2, 2), size=(3, 3), mode="bicubic").flatten(1),
        )
    ),
    (1, 1, 4),
)
architecture(
    "pixel_shuffle",
    lambda: classifier(
        nn.Conv2d(1, 4, 1), nn.PixelShuffle(2), nn.ReLU(), nn.PixelUnshuffle(2), nn.ReLU(), inside=16
    ),
    (1, 1, 2, 2),
    by="legacy",
    extra="dynamo",
)
architecture("pool_max", lambda: pooled(nn.MaxPool2d(2, 1), 8), (1, 1, 3, 3), extra="legacy")
architecture(
    "pool_max_ceil",
    lambda: pooled(nn.MaxPool2d(2, 2, ceil_mode=True), 8),
    (1, 1, 3, 3),
    by="legacy",
    extra="dynamo",
)
architecture(
    "pool_max_dilated",
    lambda: pooled(nn.MaxPool2d(2, 1, dilation=2, padding=1), 18),
    (1, 1, 3, 3),
    by="legacy",
    extra="dynamo",
)
architecture(
    "pool_min",
    lambda: pooled(Lambda(lambda x: -F.max_pool2d(-x, 2)), 2, before=nn.Conv2d(1, 2, 2)),
    (1, 1, 3, 3),
    by="legacy",
    extra="dynamo",
)
architecture(
    "pool_avg_padded",
    lambda: pooled(nn.AvgPool2d(2, 1, padding=1, count_include_pad=False), 32),
    (1, 1, 3, 3),
    by="legacy",
    extra="dynamo",
)
architecture(
    "pool_adaptive_avg", lambda: pooled(nn.AdaptiveAvgPool2d(2), 8), (1, 1, 4, 4), by="legacy", extra="dynamo"
)
architecture(
    "pool_adaptive_max", lambda: pooled(nn.AdaptiveMaxPool2d(1), 2), (1, 1, 3, 3), by="legacy", extra="dynamo"
)
architecture("pool_lp", lambda: pooled(nn.LPPool2d(2, 2), 2), (1, 1, 2, 2), centre=1.0)
architecture(
    "maxout",
    lambda: nn.Sequential(nn.Linear(3, 12), Lambda(lambda x: x.view(-1, 4, 3).amax(-1)), nn.Linear(4, 2)),
    (1, 3),
    by="legacy",
    extra="dynamo",
)
architecture(
    "local_response_norm",
    lambda: nn.Sequential(nn.Conv2d(1, 3, 1), nn.LocalResponseNorm(2), nn.Flatten()),
    (1, 1, 1, 2),
)
