"""A trained head as its record describes it: what it predicts, of which features; without torch."""

from dataclasses import dataclass
from pathlib import Path
from typing import Self

from ser.cache.checksums import require_undamaged
from ser.corpus.errors import UserError, training
from ser.heads.config import HeadConfig
from ser.heads.record import FILE, HeadRecord, read_done


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
