"""Pack a run into one file, see `ser.predict.bundle`; the same run gives the same members.

A bundle holds what a prediction reads: the heads in use, without the others; no audio, manifest or
logits, and no path of this machine. The run is first opened as for a prediction, so that a run that
cannot predict is not packed, and the weights are those that the heads were trained on.

A fine-tuned model exists nowhere else and is always embedded; in the bundle it is a feature like
any other, and card.md and head.json record its base model, which is never loaded.
"""

import json
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from fnmatch import fnmatch
from io import BytesIO
from pathlib import Path
from typing import IO, Any
from zipfile import ZipFile, ZipInfo

import yaml

import ser
from ser.corpus.atomic import staged
from ser.corpus.bounded_yaml import Entry
from ser.corpus.errors import UserError
from ser.corpus.registry import built_in_only
from ser.extract.models import NOT_WANTED, Weights
from ser.extract.registry import card
from ser.heads.config import HeadConfig
from ser.heads.record import FILE, HeadRecord
from ser.packing.card import base_of, write_card
from ser.packing.corpora import require_licence_name
from ser.packing.evaluation import evaluate
from ser.pipeline.file import Pipeline
from ser.predict.archive import CARD, MODEL_FILE, PIPELINE, copied
from ser.predict.evaluation import Evaluation
from ser.predict.members import model_problem
from ser.predict.predictor import Predictor
from ser.predict.record import BUNDLE_JSON, FORMAT, BundleRecord, Feature, Member
from ser.stack.record import StackRecord

OWN = "Apache-2.0 (ser's own code)"
LICENCES = {"prosody": OWN, "pitch": OWN, "opensmile": "audEERING's research licence"}
UNKNOWN = "unknown: see where {} is from"
PATHS = ("init", "_name_or_path", "name_or_path")  # keys of JSON and YAML that may hold a path
PLAIN_FILE = 0o100644 << 16  # a plain file, in the attributes of a member


def pack(
    run: Path,
    out: Path,
    *,
    embed: bool = False,
    risk: float | None = None,
    licence: str | None = None,
) -> BundleRecord:
    """Write the bundle of a run; return its record.

    Args:
        run: the folder of the run.
        out: the file to write.
        embed: include the foundation models; fine-tuned models are always included.
        risk: include scores on unseen corpora, calibrate on them, and abstain so that no more than
            this share of the confident predictions for them is wrong (`ser.packing.evaluation`).
        licence: that of the weights in the bundle, by its name.

    Raises `UserError` for a run that cannot predict or is not a folder, plugins, scores of another
    stack, a model that is a folder of this machine without `embed`, pickled weights that would be
    included, a licence that is not one line, and with `risk` as `evaluate` does.
    """
    if not run.is_dir():
        raise UserError(f"{run}: it is not a folder; give the folder of a run, as runs/demo.")
    predictor = Predictor(run, device="cpu")
    _require_packable(run, predictor, licence)
    features, folders = _features(predictor, embed)
    evaluation = None if risk is None else evaluate(predictor, risk)
    record = BundleRecord(
        format=FORMAT,
        made=datetime.now(UTC).isoformat(timespec="seconds"),
        ser=ser.__version__,
        heads=predictor.heads,
        stack=predictor.stack.config.model if predictor.stack is not None else None,
        classes=predictor.classes,
        attributes=predictor.attributes,
        features=features,
        members={},
        licence=licence,
        evaluation=evaluation,
    )
    sources: dict[str, Path | bytes] = {
        PIPELINE: _pipeline_text(predictor, features).encode(),
        CARD: write_card(predictor, record).encode(),
        **dict(_of_run(run, predictor)),
        **dict(_of_stack(run, predictor, evaluation)),
        **dict(_of_models(folders)),
    }
    return _write(out, record, sources)


def _require_packable(run: Path, predictor: Predictor, licence: str | None) -> None:
    """Raise `UserError` for a run that needs other code or a server, and for a licence's name."""
    if predictor.pipeline.plugins:
        raise UserError(
            f"{run / PIPELINE}: it needs plugins, and a bundle may not run code; share the run's "
            "folder and the plugins instead."
        )
    try:
        with built_in_only():
            Pipeline.load(run / PIPELINE)
    except UserError as error:
        raise UserError(
            f"{str(error).removesuffix('.')}; a bundle may not run code, so share the run's folder "
            "and the package instead."
        ) from error
    remote = [name for name in predictor.features.names if predictor.features.options[name].remote]
    if remote:
        raise UserError(
            f"{run}: 'features.{remote[0]}' uses a server, and a bundle may send nothing to one; "
            "share the run's folder instead."
        )
    require_licence_name(licence)


def _features(
    predictor: Predictor, embed: bool
) -> tuple[dict[str, Feature], dict[str, tuple[str, Path]]]:
    """Describe every feature; return the folders, in the bundle and here, of those to embed.

    Features of one model share its files.
    """
    described: dict[str, Feature] = {}
    folders: dict[str, tuple[str, Path]] = {}
    first: dict[str, Feature] = {}
    for name, weights in predictor.features.weights().items():
        options = predictor.features.options[name]
        kind, model = options.kind, str(options.pretrained)
        if weights is None:
            licence = LICENCES.get(kind, UNKNOWN.format(f"the kind {kind}"))
            described[name] = Feature(kind=kind, licence=licence)
            continue
        if model not in first:
            first[model] = _described(name, model, weights, embed)
            if (place := first[model].embedded) is not None:
                folders[name] = place, weights.folder
        described[name] = first[model].model_copy(update={"kind": kind})
    return described, folders


def _described(name: str, model: str, weights: Weights, embed: bool) -> Feature:
    base, local = base_of(model), Path(model).is_dir()
    embed, known = embed or base is not None, card(base or model)
    if local and not embed:
        raise UserError(
            f"features.{name}: its model is a folder of this machine ({model}), which others lack; "
            "include it with --embed."
        )
    source = f"the base of {name}" if base else Path(model).name
    return Feature(
        kind="",
        model=f"{'finetuned' if base else 'local'}/{name}" if local else model,
        weights=weights.digest,
        licence=known.licence if known else UNKNOWN.format(source),
        challenge=known.challenge if known else None,
        embedded=f"models/{name}" if embed else None,
    )


def _pipeline_text(predictor: Predictor, features: Mapping[str, Feature]) -> str:
    """Return the pipeline of the bundle, without a path of this machine.

    A fine-tuned model is an entry of `features:` and one of `heads:`.
    """
    pipeline, options = predictor.pipeline, predictor.features.options
    raw: Entry = pipeline.resolved()
    raw["corpus"] = {
        "manifest": pipeline.corpus.manifest.name,
        "classes": list(pipeline.corpus.classes),
    }
    raw |= {"cache": "cache", "run": "."}
    raw.pop("finetune", None)
    raw["features"] = {
        name: options[name].model_dump(mode="json", exclude_unset=True) for name in features
    }
    for name, feature in features.items():
        if feature.model is not None:
            raw["features"][name]["model"] = feature.model
    configs = {**pipeline.heads, **{name: c.training for name, c in pipeline.finetune.items()}}
    raw["heads"] = {name: _entry(configs[name]) for name in predictor.heads if name in configs}
    if predictor.stack is not None:
        raw["stack"] = (raw.get("stack") or {}) | {"heads": list(predictor.heads)}
    else:
        raw.pop("stack", None)
    # plain data made anew: nothing in it is shared, which YAML would write as an alias
    return yaml.safe_dump(_without_paths(raw), sort_keys=False, allow_unicode=True)


def _entry(config: HeadConfig) -> dict[str, object]:
    """Return the entry of `heads:` for a config, its values from `defaults` included."""
    entry: Entry = config.model_dump(mode="json", exclude_unset=True)
    architecture: Entry = entry.pop("architecture")
    return entry | architecture


def _of_run(run: Path, predictor: Predictor) -> Iterator[tuple[str, Path | bytes]]:
    for name in predictor.heads:
        folder = run / "heads" / name
        record = HeadRecord.read(folder / FILE)
        if (base := base_of(run / "finetuned" / name)) is not None:
            model = (record.model or {}) | {"model": base}
            # failures name utterances and the paths of their audio
            record = record.model_copy(update={"model": model, "failed": {}})
        # that of the whole run: the manifest is not in the bundle
        record = record.model_copy(update={"synthetic": predictor.synthetic})
        values = record.model_dump(mode="json", exclude_unset=True)
        record = HeadRecord.parse(folder / FILE, _without_paths(values))
        yield f"heads/{name}/{FILE}", record.to_json().encode()  # with its checksum
        for part in record.weights:
            yield f"heads/{name}/{part}.safetensors", folder / f"{part}.safetensors"


def _of_stack(
    run: Path, predictor: Predictor, evaluation: Evaluation | None
) -> Iterator[tuple[str, Path | bytes]]:
    """Yield the files of the stack; an evaluation's temperature is added to its own."""
    if predictor.stack is None:
        return
    for path in sorted((run / "stack").iterdir()):
        if path.name == "stack.json" and evaluation is not None:
            record = StackRecord.read(path)
            temperature = record.temperature * evaluation.temperature
            record = record.model_copy(update={"temperature": temperature})
            yield f"stack/{path.name}", record.to_json().encode()
        elif path.suffix in (".json", ".npz", ".skops", ".txt"):
            yield f"stack/{path.name}", path


def _of_models(folders: Mapping[str, tuple[str, Path]]) -> Iterator[tuple[str, Path | bytes]]:
    for name, (place, folder) in folders.items():
        files = [p for p in sorted(folder.iterdir()) if p.is_file() and _wanted(p.name)]
        if not any(p.suffix == ".safetensors" or p.name == "model.bin" for p in files):
            raise UserError(
                f"features.{name}: {folder} has pickled weights only, and nothing in a bundle is "
                "ever unpickled; convert them to safetensors first, or pack without --embed."
            )
        for path in files:
            if problem := model_problem(path):
                raise UserError(
                    f"features.{name}: {path} {problem}; convert it first, or pack without --embed."
                )
            yield f"{place}/{path.name}", _scrubbed(path)


def _wanted(name: str) -> bool:
    twice = any(fnmatch(name, pattern) for pattern in NOT_WANTED)
    return re.fullmatch(MODEL_FILE, name, re.ASCII) is not None and not twice


def _scrubbed(path: Path) -> Path | bytes:
    """Return the file of a model, or the text of a config without the path it was saved from."""
    if not path.name.endswith("config.json"):
        return path
    config = json.loads(path.read_text(encoding="utf-8"))
    clean = _without_paths(config)
    return path if clean == config else json.dumps(clean, indent=2).encode()


def _without_paths(data: object) -> Any:
    """Return plain data with only the last part of absolute paths."""
    if isinstance(data, dict):
        return {
            key: Path(value).name
            if key in PATHS and isinstance(value, str) and Path(value).is_absolute()
            else _without_paths(value)
            for key, value in data.items()
        }
    return [_without_paths(item) for item in data] if isinstance(data, list) else data


def _write(out: Path, record: BundleRecord, sources: Mapping[str, Path | bytes]) -> BundleRecord:
    """Write the zip under a temporary name, bundle.json last, and rename it."""
    out.parent.mkdir(parents=True, exist_ok=True)
    with staged(out) as part, ZipFile(part, "w") as archive:
        members = {name: _add(archive, name, source) for name, source in sources.items()}
        record = record.model_copy(update={"members": members})
        _add(archive, BUNDLE_JSON, record.model_dump_json(indent=1).encode())
    return record


def _add(archive: ZipFile, name: str, source: Path | bytes) -> Member:
    """Add an uncompressed member without a date; return its hash and size."""
    info = ZipInfo(name)
    info.external_attr = PLAIN_FILE
    content: IO[bytes] = BytesIO(source) if isinstance(source, bytes) else source.open("rb")
    with content, archive.open(info, "w", force_zip64=True) as member:
        digest = copied(content, member)
        return Member(sha256=digest, size=content.tell())
