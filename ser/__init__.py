"""Speech emotion recognition from cached foundation-model features."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from ser.predict.predictor import Predictor

__version__ = "0.1.0"


def load(run: "str | Path", device: str = "auto", head: str | None = None) -> "Predictor":
    """Open a trained run for own audio: its stack, or the named head, or without a stack the best.

    `run` is the folder that `run:` of the pipeline names, or a bundle that `ser pack` made of it;
    `device` is auto, cpu or cuda. Models are loaded when the first clip comes. Raises `UserError`
    for a run that is not whole.
    """
    import os

    # transformers draws a bar for every model that it loads, and reads this when it is imported
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    from ser.predict.predictor import Predictor

    return Predictor(run, head, device)
