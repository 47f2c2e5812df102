"""The `corpus` section of pipeline.yaml, and the base of every other section."""

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, field_validator

# The class order of the published systems (METHODS of the UNICAMP entry): neutral is last.
MSP_CLASSES = ("angry", "sad", "happy", "surprise", "fear", "disgust", "contempt", "neutral")


class Section(BaseModel):
    """Base of every section: unknown keys are errors, values never change after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class CorpusConfig(Section):
    """Say which utterances there are, where their audio lies and what the classes are called."""

    manifest: Path
    audio: Path | None = None  # where the manifest says, else the manifest's own folder
    classes: tuple[str, ...] = Field(default=MSP_CLASSES, min_length=2)

    @field_validator("classes")
    @classmethod
    def _distinct(cls, classes: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(classes)) != len(classes):
            raise ValueError("a class is named twice; name each once")
        return classes
