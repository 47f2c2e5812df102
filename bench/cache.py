"""Padded float32 batches from the cache against one `.pt` file per utterance and a DataLoader.

MSP-Podcast-like lengths (lognormal, mean 5.7 s, 2-20 s, 50 frames/s), batch 64, warm page cache:
what a head reads in every epoch but the first. Both sides give the same batches, padded alike.
"""

import shutil
import tempfile
from pathlib import Path

import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader

from bench.report import compare, options, show
from cache.features import FeatureCache
from cache.reader import BatchReader, Column

BATCH = 64


def msp_like(count: int, dim: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    seconds = np.clip(rng.lognormal(np.log(5.7) - 0.18, 0.6, count), 2, 20)
    lengths = (seconds * 50).astype(int)
    return {f"u{i}": rng.standard_normal((n, dim), np.float32) for i, n in enumerate(lengths)}


def main() -> None:
    said = options(__doc__ or "")
    count, dim = (384, 384) if said.quick else (2_048, 1_280)
    data = msp_like(count, dim)
    names = list(data)
    plan = [names[i : i + BATCH] for i in range(0, count, BATCH)]
    root = Path(tempfile.mkdtemp(dir="."))
    try:
        cache = FeatureCache.create(root, "x", {}, {"item_shape": [dim]})

        def write_pt() -> None:
            for name, frames in data.items():
                torch.save(torch.from_numpy(frames), root / f"{name}.pt")

        def write_ours() -> None:
            shutil.rmtree(cache.path / "data.zarr", ignore_errors=True)
            with cache.writer() as writer:
                for name, frames in data.items():
                    writer.append(name, frames, 1, 2)

        sides = {"write .pt fp32": write_pt, "write ours fp16": write_ours}
        rows = compare(sides, count, "utterances", rounds=3)

        def read_pt() -> None:
            files = [root / f"{n}.pt" for n in names]
            loader: DataLoader[Path] = DataLoader(files, BATCH, collate_fn=_collate)  # type: ignore[arg-type]
            for _ in loader:
                pass

        reader = BatchReader({"x": Column(FeatureCache(cache.path))})

        def read_ours() -> None:
            for _ in reader.batches(plan):
                pass

        sides = {"read .pt fp32, DataLoader": read_pt, "read ours": read_ours}
        rows += compare(sides, len(plan), "batches")
    finally:
        shutil.rmtree(root)
    show(f"{count} utterances, dim {dim}, warm", rows, said.json)


def _collate(files: list[Path]) -> torch.Tensor:
    return pad_sequence([torch.load(f, weights_only=True) for f in files], batch_first=True)


if __name__ == "__main__":
    main()
