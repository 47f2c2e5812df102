"""Speech emotion recognition from cached foundation-model features.

    import ser

    predictor = ser.load("runs/mine")
    predictor("clip.wav").emotion

Every public name is listed in `ser.__all__`; nothing is imported before it is used.
"""

from typing import TYPE_CHECKING, Any, overload

from ser.version import __version__ as __version__

if TYPE_CHECKING:
    from pathlib import Path

    from ser.cache.features import FeatureCache as FeatureCache
    from ser.cache.logits import HeadLogits as HeadLogits
    from ser.corpus.errors import UserError as UserError
    from ser.corpus.importers.registry import import_corpus as import_corpus
    from ser.corpus.importers.registry import importer as importer
    from ser.corpus.join import join_manifests as join_manifests
    from ser.corpus.manifest import Manifest as Manifest
    from ser.corpus.split import split_manifest as split_manifest
    from ser.extract.extractor import extractor as extractor
    from ser.heads.classifier import HeadClassifier as HeadClassifier
    from ser.heads.head import head as head
    from ser.heads.training.losses import loss as loss
    from ser.heads.training.samplers import sampler as sampler
    from ser.pipeline.file import Pipeline as Pipeline
    from ser.predict.predictor import Predictor as Predictor
    from ser.predict.published import PublishedPredictor
    from ser.predict.result import Failure as Failure
    from ser.predict.result import Result as Result
    from ser.predict.result import Segment as Segment
    from ser.predict.result import frame as frame
    from ser.score.attributes import ccc as ccc
    from ser.score.labels import macro_f1 as macro_f1
    from ser.score.labels import uar as uar
    from ser.score.metrics import metric as metric
    from ser.stack.classifier import Stack as Stack
    from ser.stack.registry import meta_model as meta_model
    from ser.stack.table import LogitTable as LogitTable

MODULES = {  # of the public names, each imported when it is first used
    "Failure": "predict.result",
    "FeatureCache": "cache.features",
    "HeadClassifier": "heads.classifier",
    "HeadLogits": "cache.logits",
    "LogitTable": "stack.table",
    "Manifest": "corpus.manifest",
    "Pipeline": "pipeline.file",
    "Predictor": "predict.predictor",
    "Result": "predict.result",
    "Segment": "predict.result",
    "Stack": "stack.classifier",
    "UserError": "corpus.errors",
    "ccc": "score.attributes",
    "extractor": "extract.extractor",
    "frame": "predict.result",
    "head": "heads.head",
    "import_corpus": "corpus.importers.registry",
    "importer": "corpus.importers.registry",
    "join_manifests": "corpus.join",
    "loss": "heads.training.losses",
    "macro_f1": "score.labels",
    "meta_model": "stack.registry",
    "metric": "score.metrics",
    "sampler": "heads.training.samplers",
    "split_manifest": "corpus.split",
    "uar": "score.labels",
}
PACKAGES = (
    *("cache", "commands", "corpus", "engines", "extract", "finetune", "heads", "packing"),
    *("pipeline", "predict", "presets", "score", "serve", "smoke", "stack", "stages", "synthetic"),
)

__all__ = list(MODULES)  # pyright: ignore[reportUnsupportedDunderAll]
__all__ += ["__version__", "load"]


@overload
def load(
    run: "str | Path | None" = None,
    device: str = "auto",
    head: str | None = None,
    min_confidence: float | None = None,
    *,
    model: None = None,
    lazy: bool = False,
) -> "Predictor": ...


@overload
def load(
    run: None = None,
    device: str = "auto",
    head: None = None,
    min_confidence: float | None = None,
    *,
    model: str,
    lazy: bool = False,
) -> "PublishedPredictor": ...


@overload
def load(
    run: "str | Path | None" = None,
    device: str = "auto",
    head: str | None = None,
    min_confidence: float | None = None,
    *,
    model: str | None,
    lazy: bool = False,
) -> "Predictor | PublishedPredictor": ...


def load(
    run: "str | Path | None" = None,
    device: str = "auto",
    head: str | None = None,
    min_confidence: float | None = None,
    *,
    model: str | None = None,
    lazy: bool = False,
) -> "Predictor | PublishedPredictor":
    """Open a trained run, or a published classifier, to predict the emotions in any audio.

    Args:
        run: the folder that `run:` of the pipeline names, a bundle that `ser pack` made of it, or
            one on the Hugging Face hub, as hf:owner/name or hf:owner/name@revision; by default the
            bundle that `ser` ships.
        device: auto, cpu or cuda.
        head: the head to use; by default the stack, and in a run without one the head with the best
            score on dev.
        min_confidence: the highest probability below which a result is `unsure`, 0 to 1; by default
            that of the bundle, if it has one; 0: none is.
        model: a published classifier to use instead of a run, without its heads: short name, hub id
            or folder.
        lazy: read the weights of the heads with the first clip, too, and refuse damaged ones then.

    A `Note`, which is a warning, tells how often the model of a bundle errs, where that was
    evaluated, and the licence of a published classifier. Models are loaded with the first clip.
    Raises `UserError` for a run that is incomplete, for a model that is not a classifier, and for
    both at once.

        >>> predictor = load("runs/mine", device="cpu")
        >>> predictor("clip.wav").emotion
        'angry'
    """
    import os
    import warnings

    from ser.corpus.errors import Note, UserError

    # transformers draws a bar for every model that it loads, and reads this when it is imported
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    if model is not None and (run is not None or head is not None):
        raise UserError("`model` is given beside a run or a head; give one or the other.")
    from ser.predict.predictor import Predictor
    from ser.predict.published import PublishedPredictor
    from ser.predict.shelf import shelf_bundle

    predictor: Predictor | PublishedPredictor
    if model is not None:
        predictor = PublishedPredictor(model, device, min_confidence)
    else:
        source = shelf_bundle() if run is None else run
        predictor = Predictor(source, head, device, min_confidence, lazy=lazy)
    if predictor.summary is not None:
        warnings.warn(predictor.summary, Note, stacklevel=2)
    return predictor


def __getattr__(name: str) -> Any:
    """Import a public name, or a package of this one, when it is first used (PEP 562)."""
    from importlib import import_module

    if name in MODULES:
        value = getattr(import_module(f"ser.{MODULES[name]}"), name)
        globals()[name] = value
        return value
    if name in PACKAGES:
        return import_module(f"ser.{name}")
    problem = f"module 'ser' has no attribute '{name}'"
    if not name.startswith("__"):
        from ser.corpus.errors import similar

        near = similar(name, __all__)
        problem += f"; did you mean '{near}'?" if near else "; see dir(ser)"
    # with an object of its own, or Python would add a second guess to the message
    raise AttributeError(problem, name=name, obj=None)


def __dir__() -> list[str]:
    return sorted(__all__)
