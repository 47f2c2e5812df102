"""The SRPOL head: each feature an expert, and an LSTM over the experts.

Samsung R&D Poland 2025, "Multi-task Learning for Speech Emotion Recognition in Naturalistic
Conditions". Per encoder, attentive statistics pooling (see `attentive_stats`) and a projection to a
common size; the projections, in the order of the features, are a sequence that an LSTM reads; its
last output is the embedding, and a Linear an output ends it (theirs is one Linear for all outputs,
which is the same map). Widths and dropout are ours, because theirs are not published; with one
feature the LSTM has nothing to remember, and `attentive_stats` is the better head.
"""

from typing import cast

import torch
from torch import Tensor, nn

from ser.heads.architectures.attentive_stats import AttentiveStatsPooling
from ser.heads.architectures.recurrent import in_float32
from ser.heads.head import Features, Head, Widths, head
from ser.heads.options import ExpertLSTMOptions


@head("expert_lstm", ExpertLSTMOptions)
class ExpertLSTM(Head):
    """Read the features one after another, the whole clip of each at once."""

    def __init__(self, dims: Widths, outputs: Widths, options: ExpertLSTMOptions) -> None:
        hidden, dropout = options.hidden, options.dropout
        super().__init__(
            outputs, lambda out: nn.Sequential(nn.Dropout(dropout), nn.Linear(hidden, out))
        )
        self.names = list(dims)
        self.pooling = nn.ModuleList(
            AttentiveStatsPooling(dim, options.attention or dim) for dim in dims.values()
        )
        self.projections = nn.ModuleList(nn.Linear(2 * dim, hidden) for dim in dims.values())
        self.lstm = nn.LSTM(hidden, hidden, batch_first=True)

    def embed(self, features: Features) -> Tensor:
        """Return the embeddings `(batch, hidden)`."""
        parts = zip(self.names, self.pooling, self.projections, strict=True)
        experts = [project(pool(*features[name])) for name, pool, project in parts]
        stacked = torch.stack(experts, dim=1)
        outputs = in_float32(self.lstm, stacked) if stacked.is_cuda else self.lstm(stacked)[0]
        return cast(Tensor, outputs[:, -1])

    def attention_of(self, features: Features) -> dict[str, Tensor]:
        """Return the weights `(batch, frames)` of every feature."""
        poolings = cast(list[AttentiveStatsPooling], list(self.pooling))
        parts = zip(self.names, poolings, strict=True)
        return {name: pool.weights(*features[name]) for name, pool in parts}
