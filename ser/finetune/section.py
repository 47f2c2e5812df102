"""The `finetune` section of pipeline.yaml: read, and checked against the other sections."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path

from corpus.errors import UserError, nearest
from extract.extractor import FeatureOptions, extractor_class
from extract.run import TRANSCRIPT
from heads.config import HeadConfig
from ser.document import Document
from ser.finetune.config import FineTuneConfig, finetune_keys, parse_finetune


def read_finetune(document: Document, base: Path) -> dict[str, FineTuneConfig]:
    """Read every entry, defaults merged in; raises `UserError` at the first mistake."""
    defaults = document.mapping(("finetune", "defaults"))
    found = {}
    for name in document.names("finetune"):
        where = ("finetune", name)
        own = document.mapping(where)
        entry = defaults | own
        try:
            valid = finetune_keys(entry)
        except UserError as error:
            raise document.error(where, str(error)) from error
        for key in entry:
            if key not in valid:
                at = where if key in own else ("finetune", "defaults")
                raise document.unknown((*at, key), valid)
        if "model" in entry and (base / str(entry["model"])).is_dir():
            entry["model"] = str(base / str(entry["model"]))
        make = partial(parse_finetune, name, entry)
        found[name] = document.validate(where, FineTuneConfig, make)
    return found


def check_finetune(
    document: Document,
    finetune: Mapping[str, FineTuneConfig],
    features: Mapping[str, FeatureOptions],
    heads: Mapping[str, HeadConfig],
) -> None:
    """Raise `UserError` for a name that stands elsewhere too, or transcripts that nothing makes."""
    for name, config in finetune.items():
        where = ("finetune", name)
        if name in features or name in heads:
            other = "features" if name in features else "heads"
            raise document.error(where, f"there is a '{name}' under {other} too; rename one.")
        words = [f for f, o in features.items() if extractor_class(o.kind).gives == "transcripts"]
        if config.kind == "text" and config.of not in (TRANSCRIPT, *words):
            raise document.error(
                (*where, "of"),
                f"'{config.of}' is no feature of kind asr; "
                f"{nearest(config.of, [*words, TRANSCRIPT])}",
            )
