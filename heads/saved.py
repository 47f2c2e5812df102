"""A trained head as its files describe it: what it predicts, of which features; without torch."""

from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np

from ser.cache.checksums import require_undamaged
from ser.corpus.errors import DamagedError, UserError, training
from ser.heads.config import HeadConfig
from ser.heads.record import FILE, HeadRecord, read_done
from ser.score.heads import softmax


@dataclass(frozen=True)
class SavedHead:
    """A head in a run's folder."""

    folder: Path
    record: HeadRecord
    config: HeadConfig

    @classmethod
    def read(cls, folder: str | Path) -> Self:
        """Read a head's folder; raises `UserError` when it is not whole."""
        folder = Path(folder)
        path = folder / FILE
        record = read_done(folder.parent.parent, folder.name)
        if record is None:
            raise UserError(f"{path}: the head is not trained; run `{training(folder)}`.")
        config = record.head_config(path)
        for part in record.weights:
            file = folder / f"{part}.safetensors"
            require_undamaged(file, record.checksums.get(file.name), record.remedy)
        return cls(folder, record, config)

    @property
    def name(self) -> str:
        """Return the name of its folder."""
        return self.folder.name

    @property
    def classifies(self) -> bool:
        """Return whether it has logits of the classes."""
        return "logits" in self.config.gives

    @property
    def outputs(self) -> dict[str, int]:
        """Return the width of each output that a prediction reads."""
        widths = self.record.outputs
        return {name: widths[name] for name in ("logits", "attributes") if name in widths}

    @property
    def attributes(self) -> tuple[str, ...]:
        """Return the attributes that it predicts."""
        return self.config.attributes if "attributes" in self.config.gives else ()

    @property
    def by_speaker(self) -> bool:
        """Return whether it reads a feature with `normalize: speaker`."""
        return any(use.normalize == "speaker" for use in self.config.features)


def layer_weights(run: Path, head: str) -> dict[str, list[float]]:
    """Return the weight of each layer by feature; {} for a head that sums no layers.

    They are averaged over the trainings (folds) of the head; those of a softmax are positive and
    sum to 1, those of `layer_sum: free` are any numbers. Raises `DamagedError` for damaged files.
    """
    folder, record, trainings = run / "heads" / head, read_done(run, head), []
    shapes = {} if record is None else record.frames
    keys = {f: f"inputs.{i}.layer_weights" for i, f in enumerate(shapes) if len(shapes[f]) > 1}
    if record is None or not keys:
        return {}
    from safetensors import SafetensorError, safe_open

    uses = record.head_config(folder / FILE).features
    free = [use.name for use in uses if use.layer_sum == "free"]
    for part in record.weights:
        file = folder / f"{part}.safetensors"
        require_undamaged(file, record.checksums.get(file.name), record.remedy)
        try:
            with safe_open(file, "numpy") as tensors:
                values = {f: tensors.get_tensor(key) for f, key in keys.items()}
        except (SafetensorError, OSError) as error:
            problem = f"its layer weights are not readable ({error})"
            raise DamagedError(file, problem, record.remedy) from error
        trainings.append([v if f in free else softmax(v) for f, v in values.items()])
    means = [np.mean(weights, axis=0).tolist() for weights in zip(*trainings, strict=True)]
    return dict(zip(keys, means, strict=True))
