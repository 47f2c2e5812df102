"""The plain baseline of a pipeline: a linear probe of what its heads read.

`heads: {baseline: true}`, the default, adds a head named `baseline` where none of the heads is a
`linear_probe`. It reads the frames of the heads' acoustic features (those of text where there are
no others), chooses the layer of a feature with all its layers itself, and is trained and scored
like any head. The stack leaves it out unless `stack.heads` names it. `class_scores` and fine-tuned
models read no frames that a probe could.
"""

from collections.abc import Mapping, Sequence
from functools import partial

from ser.corpus.bounded_yaml import Entry
from ser.extract.extractor import EXTRACTORS, FeatureOptions
from ser.heads.config import HeadConfig, merged, parse_head
from ser.pipeline.document import BASELINE, Document

PROBE = "linear_probe"
DEFAULT = True  # the switch of a file without one


def with_baseline(
    document: Document, features: Mapping[str, FeatureOptions], heads: Mapping[str, HeadConfig]
) -> dict[str, HeadConfig]:
    """Return the heads and the baseline, which becomes an entry of the document too."""
    switch = document.mapping(("heads",)).get(BASELINE, DEFAULT)
    added = dict(heads)
    if switch is not True or any(config.head == PROBE for config in heads.values()):
        return added
    entry = _entry(features, [c for c in heads.values() if c.head != "class_scores"])
    if entry is not None:
        section = document.data["heads"]
        section.pop(BASELINE, None)
        section[BASELINE] = entry
        make = partial(parse_head, merged(document.mapping(("heads", "defaults")), entry))
        added[BASELINE] = document.validate(("heads", BASELINE), HeadConfig, make)
    return added


def _entry(features: Mapping[str, FeatureOptions], readers: Sequence[HeadConfig]) -> Entry | None:
    """Return the entry of a probe of what these heads read and learn; None without frames."""
    names = list(dict.fromkeys(name for config in readers for name in config.feature_names))
    acoustic = [n for n in names if EXTRACTORS.get(features[n].kind).reads == "audio"]
    if not names:
        return None
    outputs = {output for config in readers for output in config.gives}
    losses = [
        loss for loss, needs in (("wce", "logits"), ("mse", "attributes")) if needs in outputs
    ]
    entry: Entry = {
        "head": PROBE,
        "features": [_use(name, readers) for name in acoustic or names],
        "loss": losses,
    }
    if "attributes" in outputs:
        rated = [config for config in readers if "attributes" in config.gives]
        entry["attributes"] = list(dict.fromkeys(a for c in rated for a in c.attributes))
    cross_fits = [config.cross_fit for config in readers]
    if cross_fits[0] is not None and all(c == cross_fits[0] for c in cross_fits):
        entry["cross_fit"] = cross_fits[0].model_dump(mode="json")
    return entry


def _use(name: str, readers: Sequence[HeadConfig]) -> str | dict[str, str]:
    """Return how the probe reads a feature: by speaker where all heads do."""
    uses = [use for config in readers for use in config.features if use.name == name]
    by_speaker = all(use.normalize == "speaker" for use in uses)
    return {"name": name, "normalize": "speaker"} if by_speaker else name


def is_reference(name: str, heads: Mapping[str, HeadConfig]) -> bool:
    """Return whether a system is the head `baseline`, a probe that others are compared with."""
    return name == BASELINE and name in heads and heads[name].head == PROBE
