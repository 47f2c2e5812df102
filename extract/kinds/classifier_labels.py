"""What the outputs of a published classifier stand for: classes of a corpus, or attributes.

1. `id2label` of its config.json names the outputs; `labels:` of the feature renames them.
2. Labels that are names of one emotion (`ang`, `anger`, `angry`) are the same class, without regard
   to case. Labels of arousal, valence and dominance make it a model of attributes.
3. Scores of classes are log-probabilities: a softmax over the labels that are classes, summed where
   several labels are one class. A class without a label gets `FLOOR`. Attributes are mapped
   linearly from the range of the model to 1 to 7, and end there.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ser.corpus.columns import ATTRIBUTES, HIGHEST, LOWEST
from ser.corpus.errors import UserError, listed, nearest
from ser.extract.encoding import read_config

FLOOR = -20.0  # log-probability of a class that the model does not know
MOST_LABELS = 10_000
OTHER_NAMES = {  # of a class, in published models; lower case
    "angry": ("anger", "ang"),
    "sad": ("sadness",),
    "happy": ("happiness", "joy", "hap"),
    "surprise": ("surprised", "sur"),
    "fear": ("fearful", "fea"),
    "disgust": ("disgusted", "dis"),
    "contempt": ("contemptuous", "con"),
    "neutral": ("neutrality", "neu"),
    "calm": ("calmness", "cal"),
}
CLASS_OF = {other: name for name, others in OTHER_NAMES.items() for other in others}


@dataclass(frozen=True)
class Meaning:
    """What a classifier's outputs mean.

    Args:
        names: the classes, in the order of the corpus, or `ATTRIBUTES`: one for each channel of the
            feature.
        outputs: for each name, the positions of the model's outputs that stand for it.
        unused: labels that stand for none of them.
        attributes: whether the names are attributes.
        range: the lowest and highest value of an attribute as the model gives it.

        >>> meaning = meaning_of(["neu", "hap", "ang"], {}, ["angry", "happy", "fear"])
        >>> meaning.outputs, meaning.unused, meaning.absent
        (((2,), (1,), ()), ('neu',), ('fear',))
    """

    names: tuple[str, ...]
    outputs: tuple[tuple[int, ...], ...]
    unused: tuple[str, ...] = ()
    attributes: bool = False
    range: tuple[float, float] = (0.0, 1.0)

    @property
    def absent(self) -> tuple[str, ...]:
        """Return the classes that no label stands for."""
        return tuple(n for n, at in zip(self.names, self.outputs, strict=True) if not at)

    def scores(self, outputs: np.ndarray) -> np.ndarray:
        """Return the channels float32 `(clips, names)` of raw outputs `(clips, labels)`."""
        raw = np.asarray(outputs, np.float64)
        if self.attributes:
            low, high = self.range
            values = raw[:, [at[0] for at in self.outputs]]
            scaled = LOWEST + (HIGHEST - LOWEST) * (values - low) / (high - low)
            return scaled.clip(LOWEST, HIGHEST).astype(np.float32)
        used = [i for at in self.outputs for i in at]
        total = np.logaddexp.reduce(raw[:, used], axis=1)
        scores = np.full((len(raw), len(self.names)), FLOOR)
        for channel, at in enumerate(self.outputs):
            if at:
                logs = np.logaddexp.reduce(raw[:, at], axis=1) - total
                scores[:, channel] = np.maximum(logs, FLOOR)
        return scores.astype(np.float32)


def read_labels(folder: Path) -> list[str]:
    """Return the labels of a model's outputs, in order, from its config.json.

    Raises `UserError` for a file without labels, or whose labels are not numbered from 0.
    """
    path = folder / "config.json"
    labels = read_config(folder).get("id2label")
    if not isinstance(labels, dict) or not 0 < len(labels) <= MOST_LABELS:
        raise UserError(
            f"{path}: it has no `id2label`, so it is not a classifier's; give a model that was "
            "trained to classify audio."
        )
    named = [labels.get(str(i)) for i in range(len(labels))]
    texts = [label for label in named if isinstance(label, str) and label.strip()]
    if len(texts) < len(named) or len(set(texts)) < len(texts):
        raise UserError(
            f'{path}: `id2label` must give each output a name of its own, from "0" on; correct it.'
        )
    return texts


def meaning_of(
    labels: Sequence[str],
    renamed: Mapping[str, str | None],
    classes: Sequence[str] = (),
    value_range: tuple[float, float] = (0.0, 1.0),
) -> Meaning:
    """Return what outputs with these labels mean.

    Args:
        labels: of the outputs, in order.
        renamed: the class or attribute of a label, None to leave it out; other labels are known by
            `OTHER_NAMES`.
        classes: those of the corpus, in order; without any, those of the model.
        value_range: the lowest and highest value of an attribute as the model gives it.

    Raises `UserError` for a label or class that does not exist, and for labels of which fewer than
    two are classes.
    """
    for label, name in renamed.items():
        if label not in labels:
            raise UserError(f"labels: the model has no label '{label}'; {nearest(label, labels)}")
        if name is not None and classes and name not in (*classes, *ATTRIBUTES):
            raise UserError(
                f"labels.{label}: '{name}' is not a class of the corpus; {nearest(name, classes)}"
            )
    names = [renamed.get(label, _class_name(label)) for label in labels]
    if any(name in ATTRIBUTES for name in names):
        return _attributes(labels, names, value_range)
    wanted = tuple(classes or dict.fromkeys(name for name in names if name is not None))
    common = [None if name is None else _class_name(name) for name in names]
    places = tuple(
        tuple(i for i, name in enumerate(common) if name == _class_name(wanted_name))
        for wanted_name in wanted
    )
    used = {i for at in places for i in at}
    if sum(map(bool, places)) < 2:
        raise UserError(
            f"labels: of the model's labels ({listed(labels)}) fewer than two are classes "
            f"({listed(wanted)}); map them, as `labels: {{{labels[0]}: {wanted[0]}}}`."
        )
    unused = tuple(label for i, label in enumerate(labels) if i not in used)
    return Meaning(wanted, places, unused)


def _attributes(
    labels: Sequence[str], names: Sequence[str | None], value_range: tuple[float, float]
) -> Meaning:
    places = [[i for i, name in enumerate(names) if name == attribute] for attribute in ATTRIBUTES]
    if any(len(at) != 1 for at in places):
        raise UserError(
            f"labels: a model of attributes needs one output each for {listed(ATTRIBUTES)}, and "
            f"this one has {listed(labels)}; map them, as `labels: {{{labels[0]}: arousal}}`."
        )
    unused = tuple(
        label for label, name in zip(labels, names, strict=True) if name not in ATTRIBUTES
    )
    return Meaning(ATTRIBUTES, tuple(map(tuple, places)), unused, True, value_range)


def _class_name(label: str) -> str:
    """Return the common name of a label, in lower case."""
    name = label.strip().lower()
    return CLASS_OF.get(name, name)
