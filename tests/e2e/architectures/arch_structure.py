"""Normalisation, heads, reductions, graph networks, shape arithmetic, several inputs and outputs."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from arch_catalogue import architecture, around
from torch import Tensor, nn

EDGES = torch.tensor([[0, 1, 1, 2, 2, 3], [1, 0, 2, 1, 3, 2]])


class ScatterGraph(nn.Module):
    """Message passing along constant edges: gather, transform, scatter-add; then the maximum over nodes."""

    def __init__(self) -> None:
        super().__init__()
        self.message, self.own = nn.Linear(2, 2), nn.Linear(2, 2)
        self.register_buffer("source", EDGES[0])
        self.register_buffer("target", EDGES[1])

    def forward(self, x: Tensor) -> Tensor:
        sent = F.relu(self.message(torch.index_select(x, 1, self.source)))
        index = self.target.view(1, -1, 1).expand(x.shape[0], -1, 2)
        got = torch.zeros_like(x).scatter_add(1, index, sent)
        return F.relu(self.own(x) + got).amax(1)


class IndexAddGraph(nn.Module):
    """The same with ``index_add`` and mean aggregation."""

    def __init__(self) -> None:
        super().__init__()
        self.message = nn.Linear(2, 2)
        self.register_buffer("source", EDGES[0])
        self.register_buffer("target", EDGES[1])
        self.register_buffer("degree", torch.bincount(EDGES[1]).float().view(1, -1, 1))

    def forward(self, x: Tensor) -> Tensor:
        sent = torch.tanh(self.message(x[:, self.source]))
        return torch.zeros_like(x).index_add(1, self.target, sent) / self.degree


class AdjacencyGraph(nn.Module):
    """A graph convolution: normalised adjacency times features times weights."""

    def __init__(self) -> None:
        super().__init__()
        adjacency = torch.eye(4)
        adjacency[EDGES[0], EDGES[1]] = 1.0
        scale = adjacency.sum(1).rsqrt()
        self.register_buffer("adjacency", scale[:, None] * adjacency * scale)
        self.a, self.b = nn.Linear(2, 3), nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        h = F.relu(self.adjacency @ self.a(x))
        return (self.adjacency @ self.b(h)).mean(1)


class AttentionGraph(nn.Module):
    """GAT: softmax of leaky scores over neighbours, others masked."""

    def __init__(self) -> None:
        super().__init__()
        mask = torch.eye(3, dtype=torch.bool)
        mask[0, 1] = mask[1, 0] = mask[1, 2] = mask[2, 1] = True
        self.register_buffer("mask", mask)
        self.lift, self.left, self.right = nn.Linear(2, 2), nn.Linear(2, 1), nn.Linear(2, 1)

    def forward(self, x: Tensor) -> Tensor:
        h = self.lift(x)
        scores = F.leaky_relu(self.left(h) + self.right(h).transpose(1, 2), 0.2)
        weights = torch.where(self.mask, scores, torch.full_like(scores, -1e9)).softmax(-1)
        return F.elu(weights @ h).sum(1)


class ShapeArithmetic(nn.Module):
    """Shapes computed from shapes, constants made from them; all of it is constant once the input's is."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.head = nn.Conv1d(1, 2, 2), nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        h = F.relu(self.first(x))
        batch, channels, length = h.shape
        ramp = torch.arange(length, dtype=x.dtype).expand(batch, channels, -1) / length
        h = h + ramp * torch.ones_like(h) - torch.full((channels, 1), 0.25).expand(channels, length)
        h = h + torch.zeros(batch, channels, length) + h.new_ones(length).repeat(channels, 1)
        return self.head(h.view(h.shape[0], -1))


class Moves(nn.Module):
    """Data movement of every kind."""

    def forward(self, x: Tensor) -> Tensor:
        x = x.reshape(x.size(0), 2, 3)
        a = torch.stack([x.flip(2), x.roll(1, 2), x.permute(0, 2, 1).reshape(1, 2, 3)], 1)
        b = F.pad(x, (1, 1), value=0.5).relu()[..., ::2].tile(1, 2, 1)
        c = torch.cat([x.select(1, 0), x.narrow(2, 1, 2).flatten(1), x.diagonal(0, 1, 2)], -1)
        d = x.unfold(2, 2, 1).sum(-1).squeeze(0).unsqueeze(0).relu()
        e = torch.tril(x).relu() + x.repeat_interleave(2, dim=2)[:, :, 1:4]
        return torch.cat([t.reshape(1, -1) for t in (a, b, c, d, e)], 1)


class SeveralPorts(nn.Module):
    """Two inputs of different shapes, two outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.image, self.state, self.head = nn.Conv2d(1, 2, 2), nn.Linear(3, 2), nn.Linear(4, 2)

    def forward(self, image: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        h = F.relu(self.image(image)).flatten(1)
        s = F.relu(self.state(state))
        return self.head(torch.cat([h, s], 1)), h - s


class ArgMaxHead(nn.Module):
    """The class index as an output beside the scores."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 3))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        y = self.body(x)
        return y, y.argmax(-1).float()


class Policy(nn.Module):
    """An action by one-hot argmax, a value of the action; indices as an output of their own (int64)."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.values = nn.Linear(3, 3), nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        action = F.one_hot(self.body(x).argmax(-1), 3).float()
        return (action * self.values(x)).sum(-1, keepdim=True)


class Reductions(nn.Module):
    """Sums, means, extremes, norms, products over axes."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(4, 6)

    def forward(self, x: Tensor) -> Tensor:
        h = self.first(x).reshape(1, 2, 3)
        parts = (
            h.sum(2), h.mean((1, 2), keepdim=True), h.amax(1), h.amin(2), torch.max(h, 2).values,
            torch.cumsum(h, 2), h.var(2), h.std(2, unbiased=False), h.norm(dim=2), h.norm(p=1, dim=2),
            h.norm(p=float("inf"), dim=2), torch.linalg.vector_norm(h + 2, dim=1), torch.prod(h, 2),
            torch.logsumexp(h, 2), (h**2).sum(2), h.square().mean().sqrt(),
        )  # fmt: skip
        return torch.cat([p.reshape(1, -1) for p in parts], 1)


class Similarity(nn.Module):
    """Cosine similarity with prototypes, distances, normalisation."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(3, 3)
        self.prototypes = nn.Parameter(torch.randn(2, 3))

    def forward(self, x: Tensor) -> Tensor:
        h = self.embed(x)
        parts = (
            F.cosine_similarity(h.unsqueeze(1), self.prototypes, dim=-1),
            F.normalize(h, dim=-1),
            F.normalize(h, p=1.0, dim=-1),
            (h.unsqueeze(1) - self.prototypes).square().sum(-1),
        )
        return torch.cat(parts, -1)


class Bilinear(nn.Module):
    """Products of two computed tensors: einsum, bmm, outer, nn.Bilinear, elementwise, division."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.form = nn.Linear(2, 4), nn.Linear(2, 4), nn.Bilinear(2, 2, 2)

    def forward(self, x: Tensor) -> Tensor:
        a, b = self.a(x).reshape(1, 2, 2), self.b(x).reshape(1, 2, 2)
        parts = (
            torch.einsum("bij,bkj->bik", a, b), torch.bmm(a, b), a * b, a / (1 + b * b),
            torch.einsum("bi,bj->bij", a[:, 0], b[:, 1]), self.form(a[:, 0], b[:, 0]), torch.maximum(a, b),
            a[:, :1] * b, torch.einsum("bij->bji", a).relu(), torch.clamp(a, min=b - 0.5, max=b + 0.5),
        )  # fmt: skip
        return torch.cat([p.reshape(1, -1) for p in parts], 1)


class Selection(nn.Module):
    """The largest values, sorted values, an element chosen by an index that depends on data."""

    def __init__(self, *, sort: bool) -> None:
        super().__init__()
        self.first, self.head, self.sort = nn.Linear(3, 4), nn.Linear(4 if sort else 2, 2), sort

    def forward(self, x: Tensor) -> Tensor:
        h = self.first(x)
        return self.head(
            torch.sort(h, -1, descending=True).values if self.sort else torch.topk(h, 2, -1).values
        )


def head(last: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 3), last)


def normed(norm: nn.Module, *, channels: int = 4) -> nn.Module:
    return nn.Sequential(nn.Conv1d(1, channels, 2), norm, nn.ReLU(), nn.Flatten(), nn.Linear(2 * channels, 2))


architecture("head_softmax", lambda: head(nn.Softmax(-1)), (1, 3), extra="legacy")
architecture("head_log_softmax", lambda: head(nn.LogSoftmax(-1)), (1, 3), extra="legacy")
architecture("head_softmin", lambda: head(nn.Softmin(-1)), (1, 3), by="legacy", extra="dynamo")
architecture("head_argmax", ArgMaxHead, (1, 3), by="dynamo legacy")
architecture("head_policy", Policy, (1, 3))
architecture("norm_layer", around(3, lambda: nn.LayerNorm(4)), (1, 3), extra="legacy", radius=0.02)
architecture(
    "norm_layer_plain",
    around(3, lambda: nn.LayerNorm(4, elementwise_affine=False)),
    (1, 3),
    radius=0.02,
    by="legacy",
    extra="dynamo",
)
architecture("norm_rms", around(3, lambda: nn.RMSNorm(4)), (1, 3), radius=0.02, by="dynamo opset23")
architecture(
    "norm_instance",
    lambda: normed(nn.InstanceNorm1d(4, affine=True)),
    (1, 1, 3),
    radius=0.02,
    by="legacy",
    extra="dynamo",
)
architecture(
    "norm_group", lambda: normed(nn.GroupNorm(2, 4)), (1, 1, 3), radius=0.02, by="dynamo legacy opset23"
)
architecture("norm_batch", lambda: normed(nn.BatchNorm1d(4)), (1, 1, 3), by="legacy", extra="dynamo")
architecture(
    "norm_weight",
    lambda: nn.utils.parametrizations.weight_norm(nn.Linear(3, 2)),
    (1, 3),
    by="legacy",
    extra="dynamo",
)
architecture(
    "norm_spectral",
    lambda: nn.utils.parametrizations.spectral_norm(nn.Linear(3, 2)).eval(),
    (1, 3),
)
architecture("gnn_scatter", ScatterGraph, (1, 4, 2), by="dynamo legacy")
architecture("gnn_index_add", IndexAddGraph, (1, 4, 2))
architecture("gnn_adjacency", AdjacencyGraph, (1, 4, 2), by="legacy", extra="dynamo")
architecture("gnn_attention", AttentionGraph, (1, 3, 2), radius=0.02, by="legacy", extra="dynamo")
architecture("shape_arithmetic", ShapeArithmetic, (1, 1, 4), by="dynamo legacy")
architecture("moves", Moves, (1, 6))
architecture("several_ports", SeveralPorts, (1, 1, 2, 2), (1, 3), extra="legacy")
architecture("reductions", Reductions, (1, 4), radius=0.02)
architecture("similarity", Similarity, (1, 3), radius=0.02)
architecture("bilinear", Bilinear, (1, 2))
architecture("topk", lambda: Selection(sort=False), (1, 3), by="legacy", extra="dynamo")
architecture("sort", lambda: Selection(sort=True), (1, 3), by="legacy", extra="dynamo")
