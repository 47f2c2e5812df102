"""The model on the shelf: the bundle that `ser` ships, used where no run is given."""

from pathlib import Path

from ser.corpus.errors import UserError

SHELF = Path(__file__).parents[1] / "models" / "acted-speech-4.ser"


def shelf_bundle() -> Path:
    """Return the path of the bundle that `ser` ships; raises `UserError` where it is missing."""
    if not SHELF.is_file():
        raise UserError(
            f"{SHELF}: the model that ser ships is missing; install ser again, or give the folder "
            "of a run, or a bundle, as `run`."
        )
    return SHELF
