"""pipeline.yaml: a single file that describes the whole system; read and checked.

Paths are relative to the file; the copy in a run's folder has absolute ones. `${NAME}` is replaced
by the environment variable. `--set section.key=value` overrides a value. Every mistake is one
sentence with the line, the key and the nearest valid key.
"""

import copy
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from ser.cache.urls import check_place, is_url
from ser.corpus.atomic import READ_ONLY, remove_leftovers, write_durably
from ser.corpus.bounded_yaml import Entry, read_yaml
from ser.corpus.classes import read_with_classes
from ser.corpus.config import VARIABLE, CorpusConfig, require_set
from ser.corpus.errors import Note
from ser.corpus.manifest import Manifest
from ser.corpus.rotations import RotationConfig
from ser.extract.extractor import FeatureOptions, parse_options
from ser.finetune.config import FineTuneConfig
from ser.heads.config import HeadConfig
from ser.pipeline.baseline import PROBE, is_reference, with_baseline
from ser.pipeline.document import BASELINE, Document
from ser.pipeline.plugins import import_plugins
from ser.pipeline.sections import (
    check_finetune,
    check_names,
    check_stack,
    read_corpus,
    read_features,
    read_finetune,
    read_heads,
    read_section,
)
from ser.score.config import ScoreConfig
from ser.stack.config import StackConfig

SECTIONS = (
    "corpus",
    "cache",
    "run",
    "finetune",
    "features",
    "heads",
    "stack",
    "score",
    "cv",
    "plugins",
)


MISSING = "give one with `--pipeline`, or write one with `ser init --preset ravdess-tiny`"


@dataclass(frozen=True)
class Origin:
    """The file and options a pipeline was read from: enough to read it again in another process.

    `base` is the folder that its paths are relative to, None for the file's own.
    """

    path: str
    overrides: tuple[str, ...] = ()
    base: str | None = None

    def load(self) -> "Pipeline":
        """Read the pipeline again; raises `UserError` as `Pipeline.load` does."""
        base = None if self.base is None else Path(self.base)
        return Pipeline.load(self.path, self.overrides, base)


@dataclass(frozen=True)
class Pipeline:
    """A checked pipeline.yaml; all paths are absolute.

    Args:
        source: the file.
        origin: what the pipeline can be read from again, in another process.
        raw: the values as written, overrides and environment included.
        corpus: the manifest, the audio folder and the classes.
        cache: the folder or URL of the feature cache.
        run: the folder of heads, stack and report.
        features: the options of each feature.
        heads: the config of each head.
        stack: the config of the stack.
        score: the config of the scores.
        cv: how `ser cv` rotates the corpus.
        finetune: the config of each fine-tuned model.
        plugins: modules to import, each with its folder as one path.

        >>> pipeline = Pipeline.load("mine.yaml", ["stack.model=majority"])
        >>> list(pipeline.heads), pipeline.stack.model
        (['audio', 'plain'], 'majority')
    """

    source: str
    origin: Origin
    raw: Entry  # as written, overrides and environment included
    corpus: CorpusConfig
    cache: Path | str  # a folder, or a URL
    run: Path
    features: Mapping[str, FeatureOptions]
    heads: Mapping[str, HeadConfig]
    stack: StackConfig
    score: ScoreConfig
    cv: RotationConfig = field(default_factory=RotationConfig)
    finetune: Mapping[str, FineTuneConfig] = field(default_factory=dict)
    plugins: tuple[str, ...] = ()  # each its folder and its module's name, as one path

    @classmethod
    def load(
        cls,
        path: str | Path,
        overrides: Sequence[str] = (),
        base: Path | None = None,
        *,
        expand: bool = True,
    ) -> "Pipeline":
        """Read and check a file; `base` replaces the file's folder for relative paths.

        With `expand=False`, for a file that came from elsewhere, `${NAME}` stays as it is. Raises
        `UserError` at the first mistake.
        """
        path = Path(path)
        document = Document(str(path), read_yaml(path, MISSING), expand=expand)
        for override in overrides:
            document.override(override)
        origin = Origin(
            str(path.resolve()), tuple(overrides), None if base is None else str(base.resolve())
        )
        return _check(document, (base or path.parent).resolve(), origin)

    @property
    def systems(self) -> list[str]:
        """Return the names of all systems with logits: heads, then fine-tuned models.

        The head `baseline` is one of them once it is trained; all else works without it.
        """
        names = [*self.heads, *self.finetune]
        trained = (self.run / "heads" / BASELINE / "logits.h5").exists()
        return [n for n in names if trained or not is_reference(n, self.heads)]

    @property
    def baseline(self) -> str | None:
        """Return the head `baseline`, or the first linear probe; None without one."""
        probes = [name for name, config in self.heads.items() if config.head == PROBE]
        return BASELINE if BASELINE in probes else next(iter(probes), None)

    @property
    def stacked(self) -> list[str]:
        """Return the systems that the stack may combine: not a baseline that it does not name."""
        systems, named = self.systems, self.stack.heads or ()
        kept = [n for n in systems if n in named or not is_reference(n, self.heads)]
        return kept or systems

    @property
    def finetuned(self) -> dict[str, FeatureOptions]:
        """Return fine-tuned models as features by name, with the options their own heads read."""
        return {
            name: parse_options(config.as_feature(str(self.run / "finetuned" / name)))
            for name, config in self.finetune.items()
        }

    def resolved(self) -> dict[str, object]:
        """Return the values of the file with every path absolute."""
        raw = copy.deepcopy(self.raw)
        for key, path in (("manifest", self.corpus.manifest), ("audio", self.corpus.audio)):
            if path is not None and not VARIABLE.search(str(path)):
                raw["corpus"][key] = str(path.resolve())
        raw |= {"cache": str(self.cache), "run": str(self.run.resolve())}
        for name, options in self.features.items():
            if (model := options.pretrained) is not None:
                raw["features"][name] |= {"model": model}
            if (file := options.source_file) is not None:
                raw["features"][name] |= {"file": file}
        for name, entry in self.finetune.items():
            raw["finetune"][name] = (raw["finetune"][name] or {}) | {"model": entry.model}
        for name, config in self.heads.items():
            if config.init is not None:
                raw["heads"][name] = (raw["heads"][name] or {}) | {"init": str(config.init)}
        if self.plugins:
            raw["plugins"] = list(self.plugins)
        return raw


def read_manifest(pipeline: Pipeline) -> Manifest:
    """Read the pipeline's manifest with the pipeline's classes; raises `UserError`."""
    require_set(pipeline.corpus.manifest, "corpus.manifest")
    return read_with_classes(pipeline.corpus)


def cache_place(pipeline: Pipeline) -> Path | str:
    """Return the cache's folder or URL; raises `UserError` when a variable in it is not set."""
    require_set(pipeline.cache, "cache")
    return pipeline.cache


def write_resolved(pipeline: Pipeline) -> None:
    """Write the pipeline into its run folder, overrides merged in and every path absolute.

    So it can be read from anywhere, and a run can predict without any other file. A file with the
    same content is not written again. Warns with a `Note` where the folder is read-only.
    """
    path = pipeline.run / "pipeline.yaml"
    text = yaml.safe_dump(pipeline.resolved(), sort_keys=False, allow_unicode=True)
    if path.is_file() and path.read_bytes().partition(b"\n")[2] == text.encode():
        return
    try:
        pipeline.run.mkdir(parents=True, exist_ok=True)
        remove_leftovers(pipeline.run)
        write_durably(path, f"# resolved from {pipeline.source}\n{text}")
    except OSError as error:
        if error.errno not in READ_ONLY or not path.is_file():
            raise
        problem = (
            f"{path}: {error.strerror}; it is unchanged and may lack the options of this call."
        )
        warnings.warn(problem, Note, stacklevel=2)


def _check(document: Document, base: Path, origin: Origin) -> Pipeline:
    data = document.data
    for key in data:
        if key not in SECTIONS:
            raise document.unknown((key,), SECTIONS)
    for key in ("corpus", "cache", "run"):
        if key not in data:
            raise document.error((key,), "this section is missing; add it.")
    cache = document.path(("cache",), data["cache"])
    with document.at(("cache",)):
        check_place(cache)
    run = base / document.path(("run",), data["run"])
    plugins = import_plugins(document, base)
    corpus = read_corpus(document, base)
    finetune = read_finetune(document, base)
    stack = read_section(document, "stack", StackConfig)
    configs = {(run / "finetuned" / name).resolve(): c for name, c in finetune.items()}
    features = read_features(document, base, configs, corpus.classes)
    heads = read_heads(document, base)
    check_names(document, features, heads, corpus.classes)
    if Path(origin.path).parent != run.resolve():  # the copy in a run's folder has it already
        heads = with_baseline(document, features, heads)
    check_stack(document, stack, heads)
    check_finetune(document, finetune, features, heads)
    return Pipeline(
        source=document.source,
        origin=origin,
        raw=data,
        corpus=corpus,
        cache=cache if is_url(cache) or VARIABLE.search(cache) else (base / cache).resolve(),
        run=run,
        features=features,
        heads=heads,
        stack=stack,
        score=read_section(document, "score", ScoreConfig),
        cv=read_section(document, "cv", RotationConfig),
        finetune=finetune,
        plugins=plugins,
    )
