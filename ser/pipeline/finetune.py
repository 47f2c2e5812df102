"""The `finetune` section of pipeline.yaml: read, and checked against the other sections."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path

from ser.corpus.errors import nearest
from ser.extract.extractor import TRANSCRIPT, FeatureOptions, extractor_class
from ser.finetune.config import FineTuneConfig, finetune_keys, parse_finetune
from ser.heads.config import HeadConfig
from ser.pipeline.document import Document


def read_finetune(document: Document, base: Path) -> dict[str, FineTuneConfig]:
    """Read every entry over the defaults; raises `UserError` at the first mistake."""
    defaults = document.mapping(("finetune", "defaults"))
    configs = {}
    for name in document.names("finetune"):
        where = ("finetune", name)
        own = document.mapping(where)
        entry = defaults | own
        with document.at(where):
            valid = finetune_keys(entry)
        for key in entry:
            if key not in valid:
                at = where if key in own else ("finetune", "defaults")
                raise document.unknown((*at, key), valid)
        if "model" in entry and (base / document.path((*where, "model"), entry["model"])).is_dir():
            entry["model"] = str(base / entry["model"])
        make = partial(parse_finetune, name, entry)
        configs[name] = document.validate(where, FineTuneConfig, make)
    return configs


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
        words = [f for f, o in features.items() if extractor_class(o.kind).gives == "transcripts"]
        if config.kind == "text" and config.of not in (TRANSCRIPT, *words):
            raise document.error(
                (*where, "of"),
                f"'{config.of}' is not a feature of kind asr; "
                f"{nearest(config.of, [*words, TRANSCRIPT])}",
            )
