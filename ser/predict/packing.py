"""A run made into one file, see `ser.predict.bundle`; of the same run, with the same members.

What goes in is what a prediction reads: the heads that are asked, not the others; no audio, no
manifest, no logits, and no path of this machine. The run is opened first as for a prediction, so
that what cannot predict is not packed, and the weights are those that the heads learned on.

A fine-tuned model exists nowhere else and is always embedded; in the bundle it is a feature like
any other, and what it was fine-tuned from is told by card.md and head.json, for nobody to load.
"""

import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from fnmatch import fnmatch
from pathlib import Path
from typing import Any
from zipfile import ZipFile, ZipInfo

import yaml

import ser
from corpus.errors import UserError
from extract.models import NOT_WANTED, Weights, card
from heads.config import HeadConfig
from ser.predict.bundle import (
    ABOUT,
    BLOCK,
    CARD,
    FORMAT,
    MODEL_FILE,
    PIPELINE,
    About,
    Feature,
    Member,
    model_problem,
)
from ser.predict.card import base_of, write_card
from ser.predict.predictor import Predictor

LICENCES = {"prosody": "Apache-2.0 (ser's own code)", "opensmile": "audEERING's research licence"}
UNKNOWN = "unknown: see where {} is from"
PATHS = ("init", "_name_or_path", "name_or_path")  # keys of JSON and YAML that may hold one
FILE = 0o100644 << 16  # a plain file, in the attributes of a member


def pack(run: Path, out: Path, *, embed: bool = False) -> About:
    """Write a bundle of a run; `embed` puts the foundation models in. Return what is in it.

    Fine-tuned models are put in always. Raises `UserError` for a run that cannot predict or is not
    a folder, plugins, scores of another stack, another model that is a folder of this machine
    without `embed`, and pickled weights that would be put in.
    """
    if not run.is_dir():
        raise UserError(f"{run}: there is no such folder; give that of a run, as runs/demo.")
    predictor = Predictor(run, device="cpu")
    if predictor.pipeline.plugins:
        raise UserError(
            f"{run / PIPELINE}: it needs plugins, and a bundle may not run code; give the run's "
            "folder and the plugins instead."
        )
    asked = [name for name in predictor.features.names if predictor.features.options[name].remote]
    if asked:
        raise UserError(
            f"{run}: 'features.{asked[0]}' is asked of a server, and a bundle may send nobody's "
            "words anywhere; give the run's folder instead."
        )
    features, folders = _features(predictor, embed)
    about = About(
        format=FORMAT,
        made=datetime.now(UTC).isoformat(timespec="seconds"),
        ser=ser.__version__,
        heads=predictor.heads,
        stack=predictor.stack.config.model if predictor.stack is not None else None,
        classes=predictor.classes,
        attributes=predictor.attributes,
        features=features,
        members={},
    )
    sources: dict[str, Path | bytes] = {
        PIPELINE: _pipeline_text(predictor, features).encode(),
        CARD: write_card(predictor, about).encode(),
        **dict(_of_run(run, predictor)),
        **dict(_of_models(folders)),
    }
    return _write(out, about, sources)


def _features(
    predictor: Predictor, embed: bool
) -> tuple[dict[str, Feature], dict[str, tuple[str, Path]]]:
    """Describe every feature; of those to embed, return folder in the bundle, and on this disk.

    Features of one model share what is embedded.
    """
    told: dict[str, Feature] = {}
    folders: dict[str, tuple[str, Path]] = {}
    first: dict[str, Feature] = {}
    weights = predictor.features.weights()
    for name in predictor.features.names:
        options, found = predictor.features.options[name], weights[name]
        kind = options.kind
        if found is None:
            told[name] = Feature(
                kind=kind, licence=LICENCES.get(kind, UNKNOWN.format(f"the kind {kind}"))
            )
            continue
        model = str(getattr(options, "model", ""))
        if model not in first:
            first[model] = _described(name, model, found, embed)
            if (place := first[model].embedded) is not None:
                folders[name] = place, found.folder
        told[name] = first[model].model_copy(update={"kind": kind})
    return told, folders


def _described(name: str, model: str, found: Weights, embed: bool) -> Feature:
    base, local = base_of(model), Path(model).is_dir()
    embed, known = embed or base is not None, card(base or model)
    if local and not embed:
        raise UserError(
            f"features.{name}: its model is a folder of this machine ({model}), which nobody else "
            "has; pack it too with --embed."
        )
    source = f"the base of {name}" if base else Path(model).name
    return Feature(
        kind="",
        model=f"{'finetuned' if base else 'local'}/{name}" if local else model,
        weights=found.digest,
        licence=known.licence if known else UNKNOWN.format(source),
        challenge=known.challenge if known else None,
        embedded=f"models/{name}" if embed else None,
    )


def _pipeline_text(predictor: Predictor, features: Mapping[str, Feature]) -> str:
    """Return the pipeline of what is packed, without a path of this machine.

    A fine-tuned model is an entry of `features:` and one of `heads:`.
    """
    pipeline, options = predictor.pipeline, predictor.features.options
    raw: dict[str, Any] = json.loads(json.dumps(pipeline.resolved()))  # nothing shared: no alias
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
    return yaml.safe_dump(_without_paths(raw), sort_keys=False, allow_unicode=True)


def _entry(config: HeadConfig) -> dict[str, Any]:
    """Return the entry of `heads:` that a config is of, what it has of the defaults included."""
    said: dict[str, Any] = config.model_dump(mode="json", exclude_unset=True)
    architecture: dict[str, Any] = said.pop("architecture")
    return said | architecture


def _of_run(run: Path, predictor: Predictor) -> Iterator[tuple[str, Path | bytes]]:
    for name in predictor.heads:
        folder = run / "heads" / name
        done = json.loads((folder / "head.json").read_text(encoding="utf-8"))
        if (base := base_of(run / "finetuned" / name)) is not None:
            done["model"]["model"] = base
            done["failed"] = {}  # of utterances, with the paths of their audio
        yield f"heads/{name}/head.json", json.dumps(_without_paths(done), indent=1).encode()
        for part in done["weights"]:
            yield f"heads/{name}/{part}.safetensors", folder / f"{part}.safetensors"
    if predictor.stack is not None:
        for path in sorted((run / "stack").iterdir()):
            if path.suffix in (".json", ".skops", ".txt"):
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
    """Return a model's file, or a config's text without the path that it was saved from."""
    if not path.name.endswith("config.json"):
        return path
    said = json.loads(path.read_text(encoding="utf-8"))
    clean = _without_paths(said)
    return path if clean == said else json.dumps(clean, indent=2).encode()


def _without_paths(said: Any) -> Any:
    if isinstance(said, dict):
        return {
            key: Path(value).name
            if key in PATHS and isinstance(value, str) and Path(value).is_absolute()
            else _without_paths(value)
            for key, value in said.items()
        }
    return [_without_paths(each) for each in said] if isinstance(said, list) else said


def _write(out: Path, about: About, sources: Mapping[str, Path | bytes]) -> About:
    """Write the zip beside, bundle.json last, and rename it."""
    out.parent.mkdir(parents=True, exist_ok=True)
    part = out.with_name(f".{out.name}.part")
    try:
        with part.open("wb") as file:
            with ZipFile(file, "w") as archive:
                members = {name: _add(archive, name, source) for name, source in sources.items()}
                about = about.model_copy(update={"members": members})
                _add(archive, ABOUT, about.model_dump_json(indent=1).encode())
            file.flush()
            os.fsync(file.fileno())
        part.replace(out)
    finally:
        part.unlink(missing_ok=True)
    return about


def _add(archive: ZipFile, name: str, source: Path | bytes) -> Member:
    """Add a member, stored, of no time; return its hash and size."""
    info = ZipInfo(name)
    info.external_attr = FILE
    total, size = hashlib.sha256(), 0
    with archive.open(info, "w", force_zip64=True) as member:
        for block in _blocks(source):
            total.update(block)
            member.write(block)
            size += len(block)
    return Member(sha256=total.hexdigest(), size=size)


def _blocks(source: Path | bytes) -> Iterator[bytes]:
    if isinstance(source, bytes):
        yield source
        return
    with source.open("rb") as file:
        while block := file.read(BLOCK):
            yield block
