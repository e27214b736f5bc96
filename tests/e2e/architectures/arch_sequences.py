"""Recurrent networks, attention, transformers."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from arch_catalogue import Lambda, architecture
from torch import Tensor, nn


class Recurrent(nn.Module):
    """A recurrent layer with PyTorch's interface, and a linear readout of its last state."""

    def __init__(self, layer: nn.Module, width: int) -> None:
        super().__init__()
        self.layer, self.head = layer, nn.Linear(width, 2)

    def forward(self, x: Tensor) -> Tensor:
        y, _ = self.layer(x)
        return self.head(y[:, -1])


class Cells(nn.Module):
    """A cell stepped by a Python loop, the state starting at zero."""

    def __init__(self, cell: nn.Module, width: int) -> None:
        super().__init__()
        self.cell, self.width, self.head = cell, width, nn.Linear(width, 2)

    def forward(self, x: Tensor) -> Tensor:
        h = c = x.new_zeros(x.shape[0], self.width)
        for t in range(x.shape[1]):
            if isinstance(self.cell, nn.LSTMCell):
                h, c = self.cell(x[:, t], (h, c))
            else:
                h = self.cell(x[:, t], h)
        return self.head(h)


class Attention(nn.Module):
    """Projections around ``scaled_dot_product_attention``."""

    def __init__(self, *, causal: bool = False, heads: int = 1) -> None:
        super().__init__()
        self.project, self.causal, self.heads = nn.Linear(2, 6), causal, heads

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.project(x).chunk(3, dim=-1)
        split = [t.unflatten(-1, (self.heads, -1)).transpose(1, 2) for t in (q, k, v)]
        y = F.scaled_dot_product_attention(*split, is_causal=self.causal)
        return y.transpose(1, 2).flatten(2)


class PlainAttention(nn.Module):
    """The same spelled out with matmul, masked fill and softmax."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v = nn.Linear(2, 2), nn.Linear(2, 2), nn.Linear(2, 2)
        self.register_buffer("mask", torch.triu(torch.ones(3, 3, dtype=torch.bool), 1))

    def forward(self, x: Tensor) -> Tensor:
        scores = self.q(x) @ self.k(x).transpose(-1, -2) / 2**0.5
        return scores.masked_fill(self.mask, float("-inf")).softmax(-1) @ self.v(x)


class SelfAttention(nn.Module):
    """``nn.MultiheadAttention`` of a sequence with itself."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(2, 1, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.attention(x, x, x, need_weights=False)[0]


class LinearAttention(nn.Module):
    """Kernel attention with feature map elu + 1."""

    def __init__(self) -> None:
        super().__init__()
        self.project = nn.Linear(2, 6)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.project(x).chunk(3, dim=-1)
        q, k = F.elu(q) + 1, F.elu(k) + 1
        top = torch.einsum("bnd,bde->bne", q, torch.einsum("bnd,bne->bde", k, v))
        return top / torch.einsum("bnd,bd->bn", q, k.sum(1)).unsqueeze(-1)


class Patches(nn.Module):
    """A vision transformer: patch embedding, class token, positions, one encoder block, a head."""

    def __init__(self, block: nn.Module, width: int = 2) -> None:
        super().__init__()
        self.embed = nn.Conv2d(1, width, 2, 2)
        self.token, self.position = (
            nn.Parameter(torch.randn(1, 1, width) * 0.3),
            nn.Parameter(torch.randn(1, 3, width) * 0.3),
        )
        self.block, self.head = block, nn.Linear(width, 2)

    def forward(self, x: Tensor) -> Tensor:
        h = self.embed(x).flatten(2).transpose(1, 2)
        h = torch.cat([self.token.expand(x.shape[0], -1, -1), h], 1) + self.position
        return self.head(self.block(h)[:, 0])


class Llama(nn.Module):
    """RMSNorm, rotary positions, causal attention, SwiGLU."""

    def __init__(self) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.RMSNorm(2, eps=1e-5), nn.RMSNorm(2, eps=1e-5)
        self.qkv, self.out = nn.Linear(2, 6, bias=False), nn.Linear(2, 2, bias=False)
        self.gate, self.up, self.down = nn.Linear(2, 3), nn.Linear(2, 3), nn.Linear(3, 2)
        angle = torch.arange(2.0)[:, None] * torch.tensor([1.0])
        self.register_buffer("cos", angle.cos().repeat(1, 2))
        self.register_buffer("sin", angle.sin().repeat(1, 2))

    def rotate(self, x: Tensor) -> Tensor:
        a, b = x.chunk(2, dim=-1)
        return x * self.cos + torch.cat([-b, a], -1) * self.sin

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(self.norm1(x)).chunk(3, dim=-1)
        y = F.scaled_dot_product_attention(
            self.rotate(q)[:, None], self.rotate(k)[:, None], v[:, None], is_causal=True
        )
        x = x + self.out(y[:, 0])
        h = self.norm2(x)
        return x + self.down(F.silu(self.gate(h)) * self.up(h))


class Decoder(nn.Module):
    """``nn.TransformerDecoderLayer``: self- and cross-attention of two inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.TransformerDecoderLayer(2, 1, 3, dropout=0.0, batch_first=True)

    def forward(self, x: Tensor, memory: Tensor) -> Tensor:
        return self.layer(x, memory)


def encoder(activation: str, *, norm_first: bool) -> nn.Module:
    return nn.TransformerEncoderLayer(
        2, 1, 3, dropout=0.0, activation=activation, batch_first=True, norm_first=norm_first
    )


def pool_tokens(body: nn.Module) -> nn.Module:
    return nn.Sequential(body, Lambda(lambda x: x.mean(1)))


architecture("rnn_tanh", lambda: Recurrent(nn.RNN(2, 3, batch_first=True), 3), (1, 3, 2), extra="legacy")
architecture(
    "rnn_relu",
    lambda: Recurrent(nn.RNN(2, 3, nonlinearity="relu", batch_first=True), 3),
    (1, 3, 2),
    by="legacy",
    extra="dynamo",
)
architecture("lstm", lambda: Recurrent(nn.LSTM(2, 2, batch_first=True), 2), (1, 3, 2), by="dynamo legacy")
architecture("gru", lambda: Recurrent(nn.GRU(2, 2, batch_first=True), 2), (1, 3, 2), by="dynamo legacy")
architecture(
    "lstm_bidirectional",
    lambda: Recurrent(nn.LSTM(2, 2, num_layers=2, batch_first=True, bidirectional=True), 4),
    (1, 2, 2),
    radius=0.02,
    by="legacy",
    extra="dynamo",
)
architecture(
    "gru_bidirectional",
    lambda: Recurrent(nn.GRU(2, 2, batch_first=True, bidirectional=True), 4),
    (1, 2, 2),
    by="legacy",
    extra="dynamo",
)
architecture("lstm_cells", lambda: Cells(nn.LSTMCell(2, 2), 2), (1, 3, 2), by="legacy", extra="dynamo")
architecture("gru_cells", lambda: Cells(nn.GRUCell(2, 2), 2), (1, 3, 2), by="legacy", extra="dynamo")
architecture("rnn_cells", lambda: Cells(nn.RNNCell(2, 2), 2), (1, 3, 2), by="legacy", extra="dynamo")
architecture("attention_sdpa", lambda: pool_tokens(Attention()), (1, 3, 2), by="dynamo legacy opset23")
architecture("attention_sdpa_causal", lambda: Attention(causal=True), (1, 3, 2), by="dynamo opset23")
architecture("attention_sdpa_heads", lambda: Attention(heads=2), (1, 2, 2), by="legacy", extra="dynamo")
architecture("attention_masked", PlainAttention, (1, 3, 2), by="legacy", extra="dynamo")
architecture("attention_multihead", lambda: pool_tokens(SelfAttention()), (1, 3, 2), by="dynamo opset23")
architecture("attention_linear", LinearAttention, (1, 3, 2), by="legacy", extra="dynamo")
architecture(
    "transformer_encoder",
    lambda: encoder("gelu", norm_first=True),
    (1, 2, 2),
    radius=0.01,
    by="dynamo opset23",
)
architecture("transformer_encoder_relu", lambda: encoder("relu", norm_first=False), (1, 2, 2), radius=0.01)
architecture("transformer_decoder", Decoder, (1, 2, 2), (1, 2, 2), radius=0.01)
architecture("transformer_llama", Llama, (1, 2, 2), radius=0.01, by="dynamo opset23")
architecture("vit", lambda: Patches(encoder("gelu", norm_first=True)), (1, 1, 2, 4), radius=0.01)
architecture(
    "vit_batchnorm",
    lambda: Patches(
        nn.Sequential(
            Attention(),
            Lambda(lambda x: x.transpose(1, 2)),
            nn.BatchNorm1d(2),
            Lambda(lambda x: x.transpose(1, 2)),
        )
    ),
    (1, 1, 2, 4),
    radius=0.02,
    by="legacy",
    extra="dynamo",
)
