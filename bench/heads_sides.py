"""The sides of `bench.heads`: the published way of training a head, and ours.

Both have the same clips, labels, architecture, first weights, loss, optimizer and batch size. The
published side is a script as its users write it: a `.pt` file a clip and feature, a stock
DataLoader, batches drawn at random and padded to the longest, no masks anywhere, nn.GRU on what is
padded. `check` compares the two on one clip before anything is timed: no side is fast because it
computes something else.
"""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader

from ser.cache.features import FeatureCache
from ser.heads.architectures.cross_modal_gru import CrossModalGRU, Modality
from ser.heads.config import HeadConfig, parse_head
from ser.heads.training.cached import head_trainer
from ser.heads.training.reading import Reading
from ser.heads.training.targets import Labelled
from ser.heads.training.task import Task

CLASSES = ("angry", "sad", "happy", "surprise", "fear", "disgust", "contempt", "neutral")
FEATURES = ("speech", "text")
SEED = 7


@dataclass(frozen=True)
class Size:
    """The size of the head, and of a batch."""

    hidden: int
    speech: int  # dims
    text: int
    batch: int


@dataclass(frozen=True)
class Clips:
    """Clips on disk: their frames by feature, as each side stores them."""

    names: list[str]
    labels: np.ndarray
    lengths: Mapping[str, np.ndarray]
    folder: Path  # of <feature>/<clip>.pt
    caches: Mapping[str, FeatureCache]

    @classmethod
    def write(
        cls, root: Path, lengths: Mapping[str, np.ndarray], dims: Mapping[str, int]
    ) -> "Clips":
        """Write random frames for both sides, the same to the bit: they are float16 numbers."""
        rng = np.random.default_rng(0)
        count = len(lengths["speech"])
        names = [f"clip_{i:05d}" for i in range(count)]
        caches = {}
        for feature, dim in dims.items():
            cache = FeatureCache.create(root / "cache", feature, {}, {"item_shape": [dim]})
            (root / "pt" / feature).mkdir(parents=True)
            with cache.writer() as writer:
                for name, length in zip(names, lengths[feature].tolist(), strict=True):
                    frames = rng.standard_normal((length, dim), np.float32).astype(np.float16)
                    exact = torch.from_numpy(frames).float()
                    writer.append(name, exact.numpy(), 1, 2)
                    torch.save(exact, root / "pt" / feature / f"{name}.pt")
            caches[feature] = FeatureCache(cache.path)
        labels = rng.permutation(np.arange(count) % len(CLASSES))
        return cls(names, labels, lengths, root / "pt", caches)


class Ours:
    """Training by `ser.heads.training`, from the cache; `stride` is that of speech."""

    def __init__(self, clips: Clips, size: Size, stride: int, device: str = "cpu") -> None:
        self.config = _config(size, stride)
        train = Labelled(clips.names, clips.labels)
        reading = Reading.of(self.config, clips.caches, {})
        dev = Labelled([], np.empty(0, dtype=np.int64))
        task = Task.of(self.config, CLASSES, train=train, dev=dev, device=device)
        self.trainer = head_trainer(task, reading)
        self.padded_share = 0.0

    def epoch(self) -> None:
        """Train one epoch, from the weights of the last."""
        self.padded_share = self.trainer.fit().history[0]["padded_share"]

    def head(self) -> CrossModalGRU:
        """Return a copy of the head as it is now."""
        head = copy.deepcopy(self.trainer.module.head)
        assert isinstance(head, CrossModalGRU)
        return head


class Published:
    """Training in the published way; `head` gives the architecture, first weights and device."""

    def __init__(self, clips: Clips, size: Size, head: CrossModalGRU) -> None:
        config = _config(size, 1)
        self.model = Unmasked(head)
        self.device = next(head.parameters()).device
        counts = torch.bincount(torch.from_numpy(clips.labels), minlength=len(CLASSES))
        weight = len(clips.labels) / (len(CLASSES) * counts)
        self.loss = nn.CrossEntropyLoss(weight=weight.to(self.device))
        self.optimizer = torch.optim.AdamW(
            head.parameters(), lr=config.lr, weight_decay=config.weight_decay
        )
        self.loader: DataLoader[tuple[Tensor, Tensor, int]] = DataLoader(
            PtFiles(clips),  # type: ignore[arg-type]  # anything with both methods is a dataset
            batch_size=config.batch,
            shuffle=True,
            collate_fn=padded,
            generator=torch.Generator().manual_seed(SEED),
        )
        self.lengths = clips.lengths["speech"]
        self.padded_share = 0.0

    def epoch(self) -> None:
        """Train one epoch, from the weights of the last."""
        self.model.train()
        frames = 0
        for batch in self.loader:
            speech, text, labels = (tensor.to(self.device) for tensor in batch)
            loss = self.loss(self.model(speech, text), labels)
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            frames += speech.shape[0] * speech.shape[1]
        self.padded_share = 1 - int(self.lengths.sum()) / frames


class Unmasked(nn.Module):
    """Run the layers of a head as the published code does: what is padded counts as speech."""

    def __init__(self, head: CrossModalGRU) -> None:
        super().__init__()
        self.head = head

    def forward(self, speech: Tensor, text: Tensor) -> Tensor:
        """Return the logits `(batch, classes)`."""
        first, second = self.head.modalities
        assert isinstance(first, Modality) and isinstance(second, Modality)
        a, b = _encode(first, speech), _encode(second, text)
        fused = torch.cat([_pool(first, a, b), _pool(second, b, a)], dim=-1)
        logits: Tensor = self.head.outputs["logits"](self.head.norm(fused))
        return logits


def _encode(modality: Modality, frames: Tensor) -> Tensor:
    out: Tensor = modality.gru(modality.norm(modality.projection(frames)))[0]
    return out


def _pool(modality: Modality, own: Tensor, other: Tensor) -> Tensor:
    aligned = own + modality.attention(own, other, other, need_weights=False)[0]
    weights = modality.pooling(aligned).softmax(dim=1)
    pooled: Tensor = (weights.transpose(1, 2) @ aligned).squeeze(1)
    return pooled


class PtFiles:
    """A map-style dataset of one `.pt` a clip and feature, and its label."""

    def __init__(self, clips: Clips) -> None:
        self.clips = clips

    def __len__(self) -> int:
        return len(self.clips.names)

    def __getitem__(self, i: int) -> tuple[Tensor, Tensor, int]:
        name, folder = self.clips.names[i], self.clips.folder
        speech, text = (
            torch.load(folder / feature / f"{name}.pt", weights_only=True) for feature in FEATURES
        )
        return speech, text, int(self.clips.labels[i])


def padded(batch: Sequence[tuple[Tensor, Tensor, int]]) -> tuple[Tensor, Tensor, Tensor]:
    """Return speech, text and labels of a batch."""
    speech, text, labels = zip(*batch, strict=True)
    return (
        pad_sequence(list(speech), batch_first=True),
        pad_sequence(list(text), batch_first=True),
        torch.tensor(labels),
    )


def check(clips: Clips, ours: Ours, published: Published, atol: float = 1e-4) -> None:
    """Check that both give the same logits of a clip that is alone: nothing is padded then."""
    speech, text, _ = padded([PtFiles(clips)[0]])
    published.model.eval()
    with torch.inference_mode():
        speech, text = speech.to(published.device), text.to(published.device)
        wanted = published.model(speech, text).cpu().numpy()
    logits = ours.trainer.predict(clips.names[:1])["logits"]
    if not np.allclose(logits, wanted, atol=atol):
        raise AssertionError(f"the sides differ: {logits} and {wanted}")


def _config(size: Size, stride: int) -> HeadConfig:
    speech = {"name": "speech", "stride": stride}
    return parse_head(
        {
            "features": [speech, "text"],
            "hidden": size.hidden,
            "batch": size.batch,
            "epochs": 1,
            "schedule": "constant",
            "seed": SEED,
        }
    )
