"""One file to predict with, `bundle.ser`: a zip of data, never of code.

    bundle.json                   the contents: sha256 and size of every other member, the heads,
                                  the stack, each feature's model by id and digest
    pipeline.yaml, card.md        as resolved, without paths; the model card
    heads/<head>/                 head.json and *.safetensors of the heads in use
    stack/                        stack.json, fold-<i>.npz|.skops|.txt, *.json
    models/<feature>/             the fine-tuned models, and the foundation models where they were
                                  embedded

1. Hash the file. A folder that was unpacked under that hash before is used if its members still
   have their hashes.
2. Otherwise check and unpack it (`ser.predict.archive`).
3. Only then is anything read: safetensors, trees as checked arrays and checked LightGBM text, JSON
   as bounded records, YAML without plugins, variables, aliases or paths that lead elsewhere, models
   without code of their own and without sizes beyond their weights. See `ser.predict.members`.

The hashes detect damage, and changes by somebody who cannot rewrite bundle.json. The maker of a
bundle is proved by the sha256 of the whole file, where the maker published it.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from platformdirs import user_cache_path

import ser.stack.run
from ser.cache.hub import HubRecord, HubRepo, is_hub
from ser.corpus.errors import UserError
from ser.corpus.registry import built_in_only
from ser.extract.models import Weights, is_not_installed, resolve
from ser.heads.record import HeadRecord
from ser.heads.saved import SavedHead
from ser.pipeline.file import Pipeline
from ser.predict.archive import PIPELINE, digest_of, is_unpacked, unpack
from ser.predict.members import MODEL, pipeline_problem
from ser.predict.record import AGAIN, BUNDLE_JSON, BundleRecord, parse_record, refused
from ser.predict.runs import table_without_rows
from ser.predict.shelf import SHELF
from ser.stack.record import StackRecord
from ser.version import __version__, install


@dataclass(frozen=True)
class Bundle:
    """A bundle, checked and unpacked to `folder`, which is laid out as the folder of a run."""

    path: Path
    folder: Path
    record: BundleRecord

    @property
    def summary(self) -> str | None:
        """Return one sentence: what the model is and how often it errs; None if not evaluated."""
        evaluation = self.record.evaluation
        if evaluation is None:
            return None
        return evaluation.summary(self.path.stem, self.record.licence)

    def pipeline(self) -> Pipeline:
        """Read its pipeline.yaml; raises `UserError` where it would run code or fetch anything."""
        text = (self.folder / PIPELINE).read_bytes()
        if problem := pipeline_problem(text):
            raise refused(self.path, PIPELINE, problem)
        with self.reading():
            pipeline = Pipeline.load(self.folder / PIPELINE, expand=False)
        for name, options in pipeline.features.items():
            if options.remote:
                raise refused(self.path, PIPELINE, "uses a server, and a bundle may send nothing")
            recorded = self.record.features.get(name)
            if recorded is None or recorded.model != options.pretrained:
                raise refused(
                    self.path, PIPELINE, f"describes features.{name} otherwise than {BUNDLE_JSON}"
                )
            if recorded.model is not None and not MODEL.fullmatch(recorded.model):
                raise refused(self.path, PIPELINE, f"names the model of features.{name} by no id")
        return replace(pipeline, finetune={})  # its fine-tuned models are features

    def require_consistent(self) -> None:
        """Raise `UserError` where bundle.json lists other heads, classes or another stack."""
        file = self.folder / "stack" / "stack.json"
        with self.reading():
            heads = self._heads()
            fitted = StackRecord.read(file) if file.is_file() else None
            model = fitted.stack_config(file).model if fitted is not None else None
        classes = {head.record.classes for head in heads if head.classifies} or {()}
        rated = [attribute for head in heads for attribute in head.attributes]
        folders = {name.split("/")[1] for name in self.record.members if name.startswith("heads/")}
        stacked = tuple(fitted.heads) if fitted is not None else tuple(sorted(folders))
        consistent = {
            "heads": self.record.heads == stacked and folders == set(stacked),
            "stack": self.record.stack == model,
            "classes": {self.record.classes} == classes,
            "attributes": self.record.attributes == tuple(dict.fromkeys(rated)),
        }
        for key, same in consistent.items():
            if not same:
                raise refused(
                    self.path, BUNDLE_JSON, f"lists other {key} than its heads and stack have"
                )

    def _heads(self) -> list[SavedHead]:
        files = [self.folder / "heads" / name / "head.json" for name in self.record.heads]
        records = [(file, HeadRecord.read(file)) for file in files]
        return [SavedHead(file.parent, r, r.head_config(file)) for file, r in records]

    def check(self) -> None:
        """Read everything but the weights; raises `UserError` for what cannot be used."""
        self.pipeline()
        with self.reading():
            table = table_without_rows(self._heads())
            if self.record.stack is not None:
                ser.stack.run.load(self.folder, table)

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Raise errors in the unpacked files as errors of the bundle; no plugin is known in it."""
        try:
            with built_in_only():
                yield
        except UserError as error:
            text = str(error).replace(f"{self.folder}{os.sep}", "")
            problem = text.rpartition("; ")[0] or text.rstrip(".")
            again = AGAIN
            if self.record.ser != __version__:  # it may be undamaged
                again += f", or use ser {self.record.ser}, which packed it"
            raise UserError(f"{self.path}: {problem}; {again}.") from error
        except (ArithmeticError, LookupError, RuntimeError, TypeError, ValueError) as error:
            # libraries raise these for sizes and shapes that do not fit together
            problem = " ".join(str(error).split())[:200] or type(error).__name__
            raise UserError(
                f"{self.path}: its parts do not fit together ({problem}); {AGAIN}."
            ) from error

    def weights(self, model: str) -> Weights:
        """Find a model's weights in the bundle or on this machine.

        Raises `UserError` for other weights.
        """
        recorded = next((f for f in self.record.features.values() if f.model == model), None)
        if recorded is None:
            raise refused(self.path, BUNDLE_JSON, f"does not describe the model {model[:100]!r}")
        if recorded.embedded is not None:
            return Weights(self.folder / recorded.embedded, str(recorded.weights))
        if is_not_installed(model, recorded.weights):
            raise UserError(
                f"{self.path.name}: it reads speech by {model}, whose weights are not installed; "
                f"run `{install('demo')}`."
            )
        weights = resolve(model)
        if weights.digest != recorded.weights:
            raise UserError(
                f"{self.path}: it needs {model} with the digest {_short(str(recorded.weights))}, "
                f"but {weights.folder} has {_short(weights.digest)}; get those weights, or a "
                "bundle packed with --embed."
            )
        return weights


def run_path(place: str | Path) -> Path:
    """Return the path of a run: a folder, a bundle, or the name of ser's own.

    A bundle on the hub, hf:owner/name[@revision], is downloaded and compared. Raises `UserError`
    where it cannot be had, or is damaged.
    """
    if not is_hub(place):
        path = Path(place)
        return SHELF if str(path) in (SHELF.name, SHELF.stem) and not path.exists() else path
    record, repo = HubRepo.parse(place, "bundle").read()
    if list(record.files) != [f"{record.name}.ser"]:
        raise UserError(f"{repo}: ser.json does not list one bundle; {HubRecord.remedy}.")
    return repo.fetch(f"{record.name}.ser", record.files[f"{record.name}.ser"])


def open_bundle(path: str | Path) -> Bundle:
    """Check a bundle and unpack it to the user's cache, or find it there.

    Raises `UserError` for a file that is not a bundle, is damaged, holds what no bundle has, or
    whose bundle.json lists other heads, classes or another stack than it has.
    """
    path = Path(path)
    with path.open("rb") as file:
        folder = user_cache_path("ser") / "bundles" / digest_of(file)
        if not is_unpacked(folder):
            unpack(file, path, folder)
    bundle = Bundle(path, folder, parse_record(path, (folder / BUNDLE_JSON).read_bytes()))
    bundle.require_consistent()
    return bundle


def _short(digest: str) -> str:
    return digest if len(digest) < 20 else f"{digest[:19]}…"
