"""The extras of the distribution: which one brings a missing package, and which others are needed.

A missing package is found when it is imported. The message then names every extra that the command
and its pipeline need and that is not installed, so that one `pip install` is enough. So is a
missing library of the system, which pip does not install.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ser.corpus.errors import UserError
from ser.version import install

if TYPE_CHECKING:
    from ser.pipeline.file import Pipeline

PACKAGES = {  # that each extra brings
    "audformat": ("audformat",),
    "heads": ("torch", "safetensors"),
    "extract": ("transformers", "tokenizers", "ctranslate2", "huggingface_hub"),
    "demo": ("espeakng_loader",),
    "finetune": ("accelerate", "peft"),
    "quantize": ("bitsandbytes",),
    "opensmile": ("opensmile",),
    "tune": ("optuna",),
    "tracking": ("tensorboard", "mlflow", "wandb"),
    "onnx": ("onnx", "onnxscript"),
    "ray": ("ray",),
    "slurm": ("submitit",),
    "llm": ("httpcore",),
    "remote": ("fsspec", "s3fs"),
    "report": ("jinja2", "kaleido", "plotly"),
    "serve": ("gradio", "fastapi", "fastapi_offline", "prometheus_client", "starlette", "uvicorn"),
}
COMMANDS = {"heads tune": "tune"} | {c: c for c in ("demo", "finetune", "report", "serve")}
KINDS = {  # of features that need an extra
    "extract": (
        *("asr", "classifier", "ctc", "facodec", "local_audio_llm", "recognizer"),
        *("speaker", "speech", "text", "whisper"),
    ),
    "llm": ("audio_llm", "llm"),
    "opensmile": ("opensmile",),
}
INCLUDED = {  # as pyproject.toml has them
    "extract": {"heads"},
    "finetune": {"extract", "heads"},
    "quantize": {"extract", "heads"},
    "demo": {"extract", "heads"},
    "onnx": {"heads"},
    "tune": {"heads"},
    "tracking": {"heads"},
    "serve": {"heads"},
}
SHARED_LIBRARY = re.compile(r"(lib[\w.+-]+\.so[.\d]*): cannot open shared object file")
DEBIAN = {"libgomp.so.1": "libgomp1", "libsndfile.so": "libsndfile1"}  # packages that have them


def missing(
    error: ImportError | OSError, command: str, options: Mapping[str, object]
) -> UserError | None:
    """Return the error that names what to install; None for what nothing here needs.

    `command` is the command without `ser`, `options` are its parameters.
    """
    if isinstance(error, ModuleNotFoundError):
        return _missing_package(error, command, options)
    match = SHARED_LIBRARY.search(str(error))
    if match is None:
        return None
    package = DEBIAN.get(match[1])
    named = f" (on Debian and Ubuntu `apt install {package}`)" if package else ""
    return UserError(f"the system lacks the library {match[1]}; install it{named}.")


def _missing_package(
    error: ModuleNotFoundError, command: str, options: Mapping[str, object]
) -> UserError | None:
    package = (error.name or "").partition(".")[0]
    extra = _extra_of(package, PACKAGES)
    if extra is None:
        return None
    certain = {extra, *([COMMANDS[command]] if command in COMMANDS else ())}
    missing = certain | {extra for extra in _of_options(options) if not _installed(extra)}
    included = {inner for extra in missing for inner in INCLUDED.get(extra, ())}
    extras = ",".join(sorted(missing - included))
    return UserError(f"the package {package} is not installed; run `{install(extras)}`.")


def _of_options(options: Mapping[str, Any]) -> Iterable[str]:
    """Yield the extras that the options of a command need, and the pipeline that they name."""
    if (engine := options.get("engine")) in ("ray", "slurm"):
        yield str(engine)
    path = options.get("path")
    if isinstance(path, Path) and path.is_file() and not options.get("manifest"):
        from ser.pipeline.file import Pipeline

        try:
            yield from _of_pipeline(Pipeline.load(path, options.get("overrides") or ()))
        except (UserError, ImportError):  # the command itself reports it when it gets there
            return


def _of_pipeline(pipeline: "Pipeline") -> Iterable[str]:
    from ser.cache.urls import is_url

    for feature in pipeline.features.values():
        if extra := _extra_of(feature.kind, KINDS):
            yield extra
        if feature.quantization != "none":
            yield "quantize"
    if pipeline.heads:
        yield "heads"
    if any(head.log for head in pipeline.heads.values()):
        yield "tracking"
    if pipeline.finetune:
        yield "finetune"
    if is_url(str(pipeline.cache)):
        yield "remote"


def _extra_of(name: str, table: Mapping[str, Sequence[str]]) -> str | None:
    return next((extra for extra, names in table.items() if name in names), None)


def _installed(extra: str) -> bool:
    return all(map(find_spec, PACKAGES[extra]))
