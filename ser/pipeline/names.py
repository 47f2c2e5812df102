"""Names that one section of pipeline.yaml takes from another: checked to exist, and by kind."""

from collections.abc import Mapping, Sequence

from ser.corpus.errors import nearest
from ser.extract.extractor import EXTRACTORS, TRANSCRIPT, FeatureOptions
from ser.finetune.config import FineTuneConfig
from ser.heads.config import HeadConfig
from ser.pipeline.document import Document
from ser.stack.config import StackConfig


def check_names(
    document: Document,
    features: Mapping[str, FeatureOptions],
    heads: Mapping[str, HeadConfig],
    classes: Sequence[str],
) -> None:
    """Raise `UserError` for a feature or head that names a missing or unsuitable feature."""
    frames = [f for f, o in features.items() if EXTRACTORS.get(o.kind).gives == "frames"]
    for name, options in features.items():
        kind = EXTRACTORS.get(options.kind)
        if options.augment and ((kind.reads, kind.gives) != ("audio", "frames")):
            raise document.error(
                ("features", name, "augment"),
                f"kind {options.kind} cannot be augmented; only features that read audio can.",
            )
        if options.transcripts is not None:
            _check_transcripts(document, ("features", name, "of"), options.transcripts, features)
    for name, config in heads.items():
        for feature in config.feature_names:
            scored = getattr(features.get(feature), "classes", classes)
            if config.head == "class_scores" and scored != classes:
                raise document.error(
                    ("features", feature, "classes"),
                    f"head '{name}' needs the classes of the corpus in their order; leave "
                    "`classes` out.",
                )
            if feature not in frames:
                raise document.error(
                    ("heads", name, "features"),
                    f"'{feature}' is not a feature with frames under features; "
                    f"{nearest(feature, frames)}",
                )
        _check_views(document, features, name, config)


def check_stack(document: Document, stack: StackConfig, heads: Mapping[str, HeadConfig]) -> None:
    """Raise `UserError` for a head under `stack.heads` that does not exist."""
    systems = [*heads, *document.names("finetune")]
    for name in stack.heads or ():
        if name not in systems:
            raise document.error(
                ("stack", "heads"), f"there is no head '{name}'; {nearest(name, systems)}"
            )


def check_finetune(
    document: Document,
    finetune: Mapping[str, FineTuneConfig],
    features: Mapping[str, FeatureOptions],
    heads: Mapping[str, HeadConfig],
) -> None:
    """Raise `UserError` for a name that features or heads have too, and for missing transcripts."""
    for name, config in finetune.items():
        where = ("finetune", name)
        if name in features or name in heads:
            other = "features" if name in features else "heads"
            raise document.error(where, f"'{name}' is also under {other}; rename one of the two.")
        if config.kind == "text":
            _check_transcripts(document, (*where, "of"), config.of, features)


def transcribers(features: Mapping[str, FeatureOptions]) -> list[str]:
    """Return the features that are transcripts."""
    return [f for f, o in features.items() if EXTRACTORS.get(o.kind).gives == "transcripts"]


def _check_transcripts(
    document: Document, where: tuple[str, ...], of: str, features: Mapping[str, FeatureOptions]
) -> None:
    words = [*transcribers(features), TRANSCRIPT]
    if of not in words:
        problem = f"'{of}' is not a feature with transcripts; {nearest(of, words)}"
        raise document.error(where, problem)


def _check_views(
    document: Document, features: Mapping[str, FeatureOptions], name: str, config: HeadConfig
) -> None:
    """Raise `UserError` for a view of a head that one of its audio features does not have."""
    for feature in config.feature_names:
        options = features[feature]
        for view in config.views:
            if EXTRACTORS.get(options.kind).reads == "audio" and view not in options.augment:
                raise document.error(
                    ("heads", name, "views"),
                    f"'{view}' is not under features.{feature}.augment; "
                    f"{nearest(view, list(options.augment))}",
                )
