"""What a prediction reads of a run's folder before its models, and the runs nearby.

That is the pipeline, the best head and the share of synthetic speech in training. The error for
what is not a run names the runs and bundles in a folder.
"""

import contextlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from zipfile import BadZipFile, ZipFile

from ser.corpus.errors import UserError, listed
from ser.corpus.manifest import Manifest
from ser.extract.extractor import FeatureOptions
from ser.heads.record import read_done
from ser.heads.saved import SavedHead
from ser.pipeline.file import Pipeline
from ser.stack.table import LogitTable

NAMED = 5  # at most
RECORD = 1 << 24  # bytes of a head.json that are read


def read_pipeline(run: Path) -> Pipeline:
    """Read a run's pipeline.yaml; raises `UserError` for what is not the folder of a run."""
    path = run / "pipeline.yaml"
    if not path.is_file():
        problem = "it is not a run folder: it holds no pipeline.yaml"
        raise UserError(
            f"{run}: {problem if run.exists() else 'it does not exist'}; {which_run()}."
        )
    pipeline = Pipeline.load(path)
    if not Path(str(pipeline.raw["run"])).is_absolute():
        if not (run / "heads").is_dir():
            raise UserError(
                f"{run}: it is the folder of a pipeline, not of a run; give that of its run, "
                f"{pipeline.run}."
            )
        raise UserError(
            f"{path}: its paths are relative, as an older version wrote them; run `ser stack fit` "
            "once with the pipeline that made this run."
        )
    return pipeline


def best_head(run: Path) -> str:
    """Name the head with the best dev score: macro-F1 where there is any, else its own score.

    Raises `UserError` when no head is trained.
    """
    records = {p.name: read_done(run, p.name) for p in sorted((run / "heads").glob("*"))}
    scores = {
        name: (-1.0 if (f1 := record.dev.get("dev_macro_f1")) is None else f1, record.score or 0.0)
        for name, record in records.items()
        if record is not None
    }
    if not scores:
        raise UserError(
            f"{run}: no head of this run is trained; run `ser run`, or give another folder."
        )
    return max(scores, key=lambda name: scores[name])


def table_without_rows(heads: Sequence[SavedHead]) -> LogitTable:
    """Return the table of what heads of one run predict, without rows."""
    return LogitTable.without_rows(
        heads[0].folder.parent,
        {head.name: head.record.fingerprint for head in heads},
        heads[0].record.classes,
        [head.name for head in heads if head.classifies],
        {head.name: head.attributes for head in heads},
    )


def synthetic_share(
    run: Path, heads: Iterable[str], features: Mapping[str, FeatureOptions], manifest: Path | None
) -> float | None:
    """Return the largest share of synthetic speech that any part of a run was trained on, 0 to 1.

    Args:
        run: the folder of the run.
        heads: the names of the heads in use.
        features: the options of the features that they read; a fine-tuned model has a record too.
        manifest: read where a record has no share, as in earlier versions; None for a bundle, whose
            pipeline may name any file.

    None where it is unknown.
    """
    folders = [Path(options.pretrained or "") for options in features.values()]
    models = [folder for folder in folders if folder.parent.name == "finetuned"]
    parts = [(run, name) for name in heads]
    parts += [(folder.parent.parent, folder.name) for folder in models]
    shares = [_recorded(folder, name) for folder, name in parts]
    if None in shares and manifest is not None:
        shares.append(_share_of(manifest))
    return max((share for share in shares if share is not None), default=None)


def _recorded(run: Path, name: str) -> float | None:
    with contextlib.suppress(UserError):
        record = read_done(run, name)
        return None if record is None else record.synthetic
    return None


def _share_of(path: Path) -> float | None:
    """Return the share of the training clips of a manifest, None where it cannot be read."""
    with contextlib.suppress(UserError):
        manifest = Manifest.read(path)
        return manifest.synthetic_share(manifest.utterances("train"))
    return None


def which_run() -> str:
    """Return the end of a sentence: the runs and bundles in this folder, or how to get one."""
    runs = trained_runs(Path())
    if not runs:
        return "none was found here: train one with `ser run`, or get a bundle that `ser pack` made"
    return f"found here: {listed(runs, NAMED)}"


def trained_runs(here: Path) -> list[str]:
    """Name the trained runs and the bundles in a folder and in its `runs/`, synthetic ones last.

    A run with a head that was trained on synthetic speech is marked as such, and so is the demo.
    """
    marks = [*here.glob("runs/*/pipeline.yaml"), *here.glob("runs/*/*/pipeline.yaml")]
    folders = [mark.parent for mark in sorted(marks) if _heads(mark.parent)]
    bundles = [*sorted(here.glob("*.ser")), *sorted(here.glob("runs/*.ser"))]
    real, synthetic = [], []
    for path in [*folders, *(bundle for bundle in bundles if bundle.is_file())]:
        if path.stem == "demo" or any(_is_synthetic(text) for text in _records(path)):
            synthetic.append(f"{path} (trained on synthetic speech)")
        else:
            real.append(str(path))
    return real + synthetic


def _heads(run: Path) -> list[Path]:
    return sorted(run.glob("heads/*/head.json"))


def _records(path: Path) -> Iterator[bytes]:
    """Yield the head.json files of a run or a bundle; none where they cannot be read."""
    try:
        if path.is_dir():
            yield from (record.read_bytes()[:RECORD] for record in _heads(path))
            return
        with ZipFile(path) as bundle:
            for info in bundle.infolist():
                if info.filename.endswith("/head.json"):
                    with bundle.open(info) as member:
                        yield member.read(RECORD)
    except (OSError, BadZipFile, NotImplementedError, RuntimeError, ValueError):
        return


def _is_synthetic(record: bytes) -> bool:
    try:
        return bool(json.loads(record).get("synthetic"))
    except (ValueError, AttributeError, RecursionError):
        return False
