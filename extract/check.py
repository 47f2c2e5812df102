"""Check features before the first clip is extracted: packages, weights, layer, quantization.

Only a model's config.json is loaded, so that a mistake in the last feature is reported at once and
not after hours of work on the others.
"""

import warnings
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

import polars as pl

from ser.corpus.errors import Note, UserError, listed, plural
from ser.extract.devices import choose_device, require_gpu
from ser.extract.encoding import read_config
from ser.extract.extractor import FeatureOptions
from ser.extract.kinds.classifier import meaning
from ser.extract.kinds.classifier_labels import FLOOR
from ser.extract.kinds.ctranslate2_weights import encoder_layers
from ser.extract.kinds.speech_families import locate
from ser.extract.layers import item_shape
from ser.extract.models import weights_folder
from ser.extract.registry import ENGLISH, MANY, card

RECOGNIZERS = ("asr", "ctc", "recognizer")
OF_TRANSFORMERS = ("classifier", "local_audio_llm", "speaker", "speech", "text", "whisper")
NEEDS = {
    "facodec": "torch",
    "opensmile": "opensmile",
    **dict.fromkeys((*RECOGNIZERS, *OF_TRANSFORMERS), "transformers"),
}
# the count of layers in a config.json: of SeamlessM4T's, Moonshine's and Whisper's encoder, of most
# models, of T5 and GPT-2
LAYERS = (
    "speech_encoder_layers",
    "encoder_num_hidden_layers",
    "encoder_layers",
    "num_hidden_layers",
    "num_layers",
    "n_layer",
)


def check_features(
    features: Mapping[str, FeatureOptions], device: str = "auto", *, weights: bool = True
) -> None:
    """Check features by name; without `weights`, which may be on other machines, packages alone.

    Weights are fetched from the hub where they are not on this machine. Raises `UserError` that
    lists every feature that cannot be extracted, `ModuleNotFoundError` for a missing package.
    """
    for options in features.values():
        package = NEEDS.get(options.kind)
        if package is not None and find_spec(package) is None:
            raise ModuleNotFoundError(f"No module named '{package}'", name=package)
    problems: dict[str, str] = {}
    for name, options in features.items():
        try:
            _check(options, device, weights)
        except (UserError, ValueError) as error:
            problems[name] = str(error).rstrip(".")
    lines = [f"features.{n}: {p}{'' if p[-1:] == '?' else '.'}" for n, p in problems.items()]
    if len(lines) == 1:
        raise UserError(lines[0])
    if lines:
        first = f"{len(lines)} features cannot be extracted, so none was:"
        raise UserError("\n  ".join([first, *lines]))


def warn_of_languages(features: Mapping[str, FeatureOptions], languages: pl.Series) -> None:
    """Warn with a `Note` of an `asr` of one language on utterances of another.

    `languages` is the manifest's column of that name; a null is a language that is not known.
    """
    codes = languages.drop_nulls().str.to_lowercase().str.extract(r"^([a-z]+)")
    for name, options in features.items():
        if options.kind not in RECOGNIZERS:
            continue
        model = str(options.pretrained)
        english = _languages(model) == [ENGLISH]
        language = ENGLISH if english else str(getattr(options, "language", ENGLISH))
        others = codes.filter(codes != language)
        if len(others):
            code = others.mode().sort()[0]
            remedy = "a multilingual model, as whisper-base, and " if english else ""
            warnings.warn(
                f"features.{name}: {model} transcribes as {language}, but the corpus is in "
                f"{', '.join(others.unique().sort())} ({len(others)} of "
                f"{plural(len(languages), 'utterance')}); use {remedy}`language: {code}`, or no "
                "transcripts.",
                Note,
                stacklevel=3,
            )


def warn_of_labels(features: Mapping[str, FeatureOptions]) -> None:
    """Warn with a `Note` of a classifier's labels that match no class, and of classes without one.

    The weights are on this machine. Raises `UserError` for labels that cannot be used.
    """
    for name, options in features.items():
        if options.kind != "classifier":
            continue
        model = str(options.weights)
        meant = meaning(options, weights_folder(model))
        problems = []
        if meant.unused:
            problems.append(f"{listed(meant.unused)} of its labels are left out")
        if meant.absent:
            problems.append(f"{listed(meant.absent)} has no label and gets the score {FLOOR:g}")
        if problems:
            warnings.warn(
                f"features.{name}: {model}: {', and '.join(problems)}; `labels:` maps labels to "
                "classes.",
                Note,
                stacklevel=3,
            )


def _languages(model: str) -> list[str]:
    """Return the languages of a recognizer; "many" where they are not known."""
    if model.endswith(".en"):
        return [ENGLISH]
    model_card = card(model)
    return model_card.languages.split() if model_card else [MANY]


def _check_language(options: FeatureOptions) -> None:
    """Raise `UserError` for a language that a recognizer was not trained on, as far as known."""
    model, language = str(options.pretrained), str(getattr(options, "language", ENGLISH))
    languages = _languages(model)
    if language not in languages and MANY not in languages:
        raise UserError(
            f"{model} transcribes {', '.join(languages)} and not {language}; use a model of that "
            "language, or correct `language`."
        )


def _check(options: FeatureOptions, device: str, weights: bool) -> None:
    if options.kind in RECOGNIZERS:
        _check_language(options)
    if not weights:
        return
    if options.quantization != "none":
        require_gpu(options, choose_device(device))
    model = options.weights
    if model is None:
        return
    folder = weights_folder(model)
    if options.kind == "classifier":
        meaning(options, folder)
    layer = options.layers
    if layer is None:
        return
    if options.kind == "whisper" and (folder / "model.bin").exists():
        states = None if layer == -1 else encoder_layers(folder) + 1
    else:
        states = _states(options, folder)
    if states is not None:
        item_shape(states, 1, layer)


def _states(options: FeatureOptions, folder: Path) -> int | None:
    """Return how many hidden states a model has, from its config.json; None without one."""
    try:
        config = read_config(folder)
    except UserError:  # of another format, which loading reports
        return None
    if options.kind == "speech":
        config = locate(str(options.weights), config).config
    counts = [count for key in LAYERS if isinstance(count := config.get(key), int)]
    return counts[0] + 1 if counts else None
