"""Ten-line makers of tiny models, corpora and fine-tunings."""

from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from ser.extract.encoder import collate
from ser.extract.models import resolve
from ser.finetune.config import parse_finetune
from ser.finetune.module import FineTuned
from ser.finetune.run import build_trainer
from ser.heads.job import by_split
from ser.heads.training.processes import Processes
from ser.heads.training.targets import labelled
from ser.pipeline.file import Pipeline
from ser.stages.finetune import finetune_job
from tests.extract.factories import (
    ctranslate2_whisper,
    tiny_speech,
    tiny_text,
    tiny_w2v_bert,
    tiny_whisper,
)
from tests.ser.factories import make_corpus

MODELS = {
    "wavlm-layer": ("speech", lambda: tiny_speech("WavLM", "layer")),
    "wavlm-group": ("speech", lambda: tiny_speech("WavLM", "group")),
    "hubert-layer": ("speech", lambda: tiny_speech("Hubert", "layer")),
    "wav2vec2-layer": ("speech", lambda: tiny_speech("Wav2Vec2", "layer")),
    "wav2vec2-group": ("speech", lambda: tiny_speech("Wav2Vec2", "group")),
    "w2v-bert": ("speech", tiny_w2v_bert),
    "whisper": ("whisper", tiny_whisper),
    "whisper-ctranslate2": ("whisper", lambda: ctranslate2_whisper(None)),
    "roberta": ("text", lambda: tiny_text("roberta")),
    "t5": ("text", lambda: tiny_text("t5")),
}
RANDOM = (
    "dropout",
    "dropout_rate",
    "layerdrop",
    "mask_time_prob",
    "mask_feature_prob",
    "dropout_prob",
)
_CALM = TemporaryDirectory(prefix="ser-calm-")


def calm_folder(model):
    """Return the folder of a tiny model in which nothing is random in training."""
    kind, make_model = MODELS[model]
    folder = Path(_CALM.name) / model
    if not folder.exists():
        text = (make_model() / "config.json").read_text()
        folder.mkdir()
        for file in make_model().iterdir():
            (folder / file.name).symlink_to(file)
        (folder / "config.json").unlink()
        lines = [
            f"{line.partition(':')[0]}: 0.0,"
            if line.partition(":")[0].strip(' "').endswith(RANDOM)
            else line
            for line in text.splitlines()
        ]
        (folder / "config.json").write_text("\n".join(lines))
    return kind, folder


def entry(model, *, calm=False, **options):
    kind, folder = calm_folder(model) if calm else (MODELS[model][0], MODELS[model][1]())
    small = {"hidden": 8, "epochs": 1, "batch": 8, "lr": 1e-3, "dropout": 0.0}
    return {"model": str(folder), "kind": kind} | small | options


def make_module(model, outputs=None, **options):
    config = parse_finetune("ft", entry(model, **options))
    return FineTuned.build("ft", config, resolve(config.model), outputs or {"logits": 3})


def make_pipeline(folder, model="wavlm-layer", count=30, rest="", **options):
    """Write a corpus and a pipeline that fine-tunes one model as `ft`."""
    make_corpus(folder, count)
    pairs = ", ".join(f"{key}: {value}" for key, value in entry(model, **options).items())
    path = folder / "pipeline.yaml"
    path.write_text(
        "corpus: {manifest: m.csv, audio: audio, classes: [angry, sad, neutral]}\n"
        "cache: cache\n"
        "run: run\n"
        f"finetune:\n  ft: {{{pairs}}}\n{rest}"
    )
    return path


def job(path, *overrides):
    return finetune_job(Pipeline.load(path, overrides), "ft")


def make_tuner(path, *overrides):
    tuning = job(path, *overrides)
    config, manifest = tuning.config, tuning.manifest
    splits = by_split(manifest, manifest.utterances())
    rows = {split: labelled(config.training, manifest, ids) for split, ids in splits.items()}
    return build_trainer(tuning, resolve(config.model), rows, Processes())


def batch(encoder, inputs):
    """Return `(inputs, sizes)` of clips or texts."""
    pieces = [encoder.prepare(source)[0] for source in inputs]
    sizes = torch.tensor([(len(piece.inputs), piece.frames) for piece in pieces])
    return collate([piece.inputs for piece in pieces], encoder.padding), sizes
