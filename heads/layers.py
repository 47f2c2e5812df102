"""The learned weights of the layers that a head sums, read from its files without torch."""

from pathlib import Path

import numpy as np

from ser.cache.checksums import require_undamaged
from ser.corpus.errors import DamagedError
from ser.heads.record import read_done


def layer_weights(run: Path, head: str) -> dict[str, list[float]]:
    """Return the weight of each layer by feature; {} for a head that sums no layers.

    Weights are positive and sum to 1, averaged over the trainings (folds) of the head. Raises
    `DamagedError` for damaged files.
    """
    record = read_done(run, head)
    if record is None:
        return {}
    summed = {i: n for i, (n, shape) in enumerate(record.frames.items()) if len(shape) > 1}
    if not summed:
        return {}
    trainings = [
        _read(run / "heads" / head / file, list(summed), record.checksums.get(file), record.remedy)
        for file in (f"{part}.safetensors" for part in record.weights)
    ]
    return {
        name: np.mean([training[i] for training in trainings], axis=0).tolist()
        for i, name in summed.items()
    }


def _read(
    file: Path, inputs: list[int], checksum: str | None, remedy: str
) -> dict[int, np.ndarray]:
    """Return the softmax of the layer weights of each of these inputs."""
    from safetensors import SafetensorError, safe_open

    require_undamaged(file, checksum, remedy)
    try:
        with safe_open(file, "numpy") as tensors:
            values = {i: tensors.get_tensor(f"inputs.{i}.layer_weights") for i in inputs}
    except (SafetensorError, OSError) as error:
        raise DamagedError(file, f"its layer weights are not readable ({error})", remedy) from error
    powers = {i: np.exp(v.astype(np.float64) - v.max()) for i, v in values.items()}
    return {i: power / power.sum() for i, power in powers.items()}
