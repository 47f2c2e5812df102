"""A first pipeline.yaml for a corpus of one's own, by the size of its training split.

    training clips    models                                        stack
    up to 2,000       Whisper tiny.en, MiniLM: a CPU is enough      mean of the heads
    up to 20,000      Whisper small.en, WavLM base+, RoBERTa base   logistic, cross-fitted heads
    more              Whisper large-v3, WavLM large, RoBERTa large  random forest, as published

Few clips get heads that pool the frames, averaged over seeds (the measurements are in
docs/heads.md), and a stack that learns no labels; one that does gets heads that are
cross-fitted over five groups of speakers, where there are as many. A corpus in another language
than English, or in several, gets no transcripts: the text models are of English.
"""

import os
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from shlex import quote

import polars as pl
import yaml

from ser.corpus.bounded_yaml import shorten
from ser.corpus.config import LONGEST_NAME, MOST_CLASSES, VARIABLE
from ser.corpus.errors import UserError, listed, plural
from ser.corpus.manifest import Manifest
from ser.corpus.split import require_speakers
from ser.extract.registry import ENGLISH
from ser.heads import scaling

FOLDS = 5  # of cross-fitting: speakers are needed for each
NEUTRAL = "neutral"
# what ends a comment's line, or what YAML does not allow in one
NOT_IN_COMMENT = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\ufeff\ufffe\uffff]")
HEADING = """\
# A first pipeline for {manifest}: {train} training clips, {classes} classes.
# Paths are relative to this file. `ser run --pipeline {name}` runs it as it is.
"""
CORPUS = """
corpus:
  manifest: {manifest}
  # audio: clips       # the folder of the audio files, if it is not the one the manifest names
  classes: {classes}   # in the order of the logits
cache: data/cache      # extracted features; several pipelines can share one cache
run: {run}             # heads, stack and report of this pipeline
"""
SMALL = """
features:
  # The middle layers of tiny.en carry more emotion than the last, so all are kept.
  whisper: {kind: whisper, model: whisper-tiny.en, window: trim, layer: all}
  transcripts: {kind: asr, model: whisper-tiny.en, window: trim}   # English only
  text: {kind: text, model: minilm, of: transcripts}   # embeddings of the transcripts
  prosody: {kind: prosody}                             # pitch, energy, spectrum; no model
"""
SMALL_AUDIO = """
features:
  # The middle layers of tiny.en carry more emotion than the last, in other languages, too.
  whisper: {kind: whisper, model: whisper-tiny.en, window: trim, layer: all}
  prosody: {kind: prosody}   # pitch, energy, spectrum; no model
"""
SMALL_HEADS = """
heads:
  # Epochs, learning rate and mix-up follow from the number of clips. `seeds: 3` averages three
  # trainings, and `keep: last` needs no speakers of dev to choose an epoch.
  defaults: {hidden: 128, seeds: 3, keep: last}
  # mean and deviation over the frames of two layers, standardized, and an MLP
  pooled: &pooled
    head: mean_mlp
    deviation: true
    standardize: true
    loss: [{name: label_smoothing, class_weight_power: 1}]
    features: [{name: whisper, layer: [2, 3]}]
  pooled-prosody: {<<: *pooled, features: [{name: whisper, layer: [2, 3]}, prosody]}
  # logistic regression on the same statistics: the plain baseline of every table of scores
  probe: {head: linear_probe, features: [{name: whisper, layer: [2, 3]}]}
"""
SMALL_TEXT_HEAD = """\
  pooled-text: {<<: *pooled, features: [{name: whisper, layer: [2, 3]}, text]}
"""
SMALL_CV = "cv: {dev: none}   # `ser cv` trains on all speakers but the one it tests\n"
MEDIUM = """
features:
  # Both features come from one pass, as they have the same window and the same silence.
  transcripts: {kind: asr, model: whisper-small.en, window: trim, silence: 8}
  whisper: {kind: whisper, model: whisper-small.en, window: trim, silence: 8}
  wavlm: {kind: speech, model: wavlm-base-plus}
  text: {kind: text, model: roberta-base, of: transcripts}   # embeddings of the transcripts

heads:
  # Epochs, learning rate and mix-up follow from the number of clips; `stride: 2` averages frames.
  defaults: {hidden: 256, batch: 64}
  whisper-text: {features: [{name: whisper, stride: 2}, text]}
  wavlm-text: {features: [{name: wavlm, stride: 2}, text]}
  whisper-wavlm: {features: [{name: whisper, stride: 2}, {name: wavlm, stride: 2}]}
"""
MEDIUM_AUDIO = """
features:
  whisper: {kind: whisper, model: whisper-small, window: trim}
  wavlm: {kind: speech, model: wavlm-base-plus}

heads:
  # Epochs, learning rate and mix-up follow from the number of clips; `stride: 2` averages frames.
  defaults: {hidden: 256, batch: 64}
  whisper: {features: [{name: whisper, stride: 2}]}
  wavlm: {features: [{name: wavlm, stride: 2}]}
  whisper-wavlm: {features: [{name: whisper, stride: 2}, {name: wavlm, stride: 2}]}
"""
LARGE = """
features:
  # These models need a GPU. Frames and words of Whisper come from one pass.
  transcripts: {kind: asr, model: whisper-large-v3, window: full}
  whisper: {kind: whisper, model: whisper-large-v3, window: full}
  wavlm: {kind: speech, model: wavlm-large}
  text: {kind: text, model: roberta-large, of: transcripts}   # embeddings of the transcripts

heads:
  # As in the published UNICAMP system (`ser init --preset unicamp`).
  defaults: {hidden: 512, epochs: 20, lr: 1.0e-5, lr_min: 1.0e-6, batch: 64, schedule: cosine}
  whisper-text: {features: [whisper, text]}
  wavlm-text: {features: [wavlm, text]}
  whisper-wavlm: {features: [whisper, wavlm]}
  whisper-wavlm-text: {features: [whisper, wavlm, text]}
"""
LARGE_AUDIO = """
features:
  # These models need a GPU.
  whisper: {kind: whisper, model: whisper-large-v3, window: full}
  wavlm: {kind: speech, model: wavlm-large}

heads:
  defaults: {hidden: 512, epochs: 20, lr: 1.0e-5, lr_min: 1.0e-6, batch: 64, schedule: cosine}
  whisper: {features: [whisper]}
  wavlm: {features: [wavlm]}
  whisper-wavlm: {features: [whisper, wavlm]}
"""
MEAN = """\
# The mean of the heads' logits on one scale: no head counts more because it is more confident.
# `ser stack compare` tries all the others.
stack: {model: mean_scaled}
"""
LEARNED = """\
# Fitted on out-of-fold logits; `ser stack compare` tries all the others.
stack: {{model: {model}, protocol: oof}}
"""


@dataclass(frozen=True)
class _Size:
    """A pipeline for up to `clips` training clips."""

    clips: float
    english: str  # features and heads
    audio: str  # the same without text
    stack: str


SIZES = (
    _Size(
        scaling.SMALL,
        SMALL + SMALL_HEADS + SMALL_TEXT_HEAD,
        SMALL_AUDIO + SMALL_HEADS,
        "mean_scaled",
    ),
    _Size(20_000, MEDIUM, MEDIUM_AUDIO, "logistic"),
    _Size(float("inf"), LARGE, LARGE_AUDIO, "random_forest"),
)


def starter(manifest: Manifest, out: Path) -> str:
    """Return the text of a pipeline.yaml at `out` for a corpus.

    Raises `UserError` for a manifest without training clips of two classes or more, or without dev
    and test, and for names that pipeline.yaml cannot hold.
    """
    train = manifest.frame.filter((pl.col("split") == "train") & pl.col("emotion").is_not_null())
    counts = dict(train["emotion"].value_counts().iter_rows())
    _require(manifest, counts)
    size = next(size for size in SIZES if train.height <= size.clips)
    path = os.path.relpath(Path(manifest.source).resolve(), out.parent.resolve())
    _require_names(manifest.source, path, out.name, counts)
    classes = sorted(counts, key=lambda name: (name == NEUTRAL, name))
    heading = HEADING.format(manifest=path, train=train.height, classes=len(classes), name=out.name)
    corpus = CORPUS.format(
        manifest=_quoted(path),
        classes=_quoted(classes),
        run=_quoted(f"runs/{Path(path).stem.strip('. ') or 'mine'}"),
    )
    cv = SMALL_CV if size is SIZES[0] and train["speaker"].n_unique() > 1 else ""
    return heading + corpus + _learning(train, size) + _scoring(manifest) + cv


def english_note(manifest: Manifest, text: str) -> str | None:
    """Return a remark on the English models of a pipeline for a corpus that may not be English."""
    languages = manifest.frame["language"]
    others = sorted(set(languages.drop_nulls()) - {ENGLISH})
    if others:
        model = re.search(r"model: (whisper-[a-z]+\.en)\b", text)
        return model and f"{model[1]} is a model of English; the corpus is in {listed(others)}."
    if languages.null_count() and "of: transcripts" in text:
        return (
            "Transcripts and text models are for English only; the manifest names no language for "
            f"{languages.null_count()} of {plural(len(languages), 'clip')}."
        )
    return None


def _require(manifest: Manifest, counts: dict[str, int]) -> None:
    source, emotions = manifest.source, manifest.frame["emotion"].drop_nulls().unique()
    if not len(emotions):
        raise UserError(f"{source}: no clip has an emotion; fill in the column 'emotion'.")
    if not {"dev", "test"} & set(manifest.frame["split"]):
        require_speakers(manifest)
    if (manifest.frame["split"] == "").all():
        raise UserError(
            f"{source}: no row is in train, dev or test; run `ser corpus split {quote(source)}`."
        )
    if len(counts) < 2:
        class_count = f"one class ({listed(counts)})" if counts else "no clip with an emotion"
        remedy = "mark rows of two or more emotions with split 'train'"
        if len(emotions) == 1:
            remedy = "add clips of other emotions"
        raise UserError(f"{source}: the train split has {class_count}; {remedy}.")
    if not {"dev", "test"} & set(manifest.frame["split"]):
        raise UserError(
            f"{source}: no row has split 'dev' or 'test', so nothing can be scored; run "
            f"`ser corpus split {quote(source)}`."
        )
    absent = set(manifest.frame["emotion"].drop_nulls()) - set(counts)
    if absent:
        raise UserError(
            f"{source}: {listed(sorted(absent))} has no clip in the train split; move some there, "
            "or leave the emotion of these rows empty."
        )


def _require_names(source: str, path: str, name: str, classes: Collection[str]) -> None:
    """Raise `UserError` for names that the reader of pipeline.yaml would refuse or change."""
    for text in (path, name):
        if NOT_IN_COMMENT.search(text):
            raise UserError(
                f"{shorten(repr(text)[1:-1])}: the name has a line break or a control character; "
                "rename the file."
            )
    if match := VARIABLE.search(path):
        raise UserError(
            f"{source}: pipeline.yaml takes {match[0]} in the name for a variable; rename it."
        )
    if len(classes) > MOST_CLASSES:
        raise UserError(
            f"{source}: the train split has clips of {len(classes)} classes, and a corpus has at "
            f"most {MOST_CLASSES}; merge some."
        )
    for emotion in classes:
        if VARIABLE.search(emotion) or len(emotion) > LONGEST_NAME:
            raise UserError(
                f"{source}: the class {shorten(repr(emotion))} has a variable (${{NAME}}) or "
                f"more than {LONGEST_NAME} characters; rename it."
            )


def _learning(train: pl.DataFrame, size: _Size) -> str:
    """Return features, heads and stack; without speakers for the folds it learns no labels."""
    english = set(train["language"].drop_nulls()) <= {ENGLISH}
    text = size.english if english else size.audio
    rarest = train["emotion"].value_counts()["count"].min()
    enough = train["speaker"].n_unique() > FOLDS and isinstance(rarest, int) and rarest >= FOLDS
    if size.stack == "mean_scaled" or not enough:
        return f"{text}\n{MEAN}"
    folds = "  # `cross_fit` gives the stack logits of speakers that a head was not trained on.\n"
    heads = text.replace("  defaults: {", f"{folds}  defaults: {{cross_fit: {FOLDS}, ")
    return f"{heads}\n{LEARNED.format(model=size.stack)}"


def _scoring(manifest: Manifest) -> str:
    frame = manifest.frame
    columns = ["gender"] if frame["gender"].null_count() < len(manifest) else []
    columns += [name for name in ("corpus", "language") if frame[name].drop_nulls().n_unique() > 1]
    groups = ", ".join(columns)
    return f"score: {{groups: [{groups}]}}   # columns of the manifest: scores for each value\n"


def _quoted(value: str | Sequence[str]) -> str:
    """Return a text or a list of them as YAML, in quotes: `1e3` and `no` are read as text."""
    dumped = yaml.safe_dump(
        value, default_style='"', default_flow_style=True, allow_unicode=True, width=float("inf")
    )
    return dumped.strip()
