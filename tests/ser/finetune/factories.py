"""Ten-line makers of tiny models, corpora and fine-tunings."""

from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from extract.models import resolve
from heads.job import by_split
from heads.training.targets import labelled
from ser.finetune.config import parse_finetune
from ser.finetune.module import FineTuned
from ser.finetune.processes import Processes
from ser.finetune.run import tuner_of
from ser.finetune.stage import finetune_job
from ser.pipeline import Pipeline
from tests.extract.factories import tiny_speech, tiny_text, tiny_w2v_bert, tiny_whisper
from tests.ser.factories import make_corpus

MODELS = {
    "wavlm-layer": ("speech", lambda: tiny_speech("WavLM", "layer")),
    "wavlm-group": ("speech", lambda: tiny_speech("WavLM", "group")),
    "hubert-layer": ("speech", lambda: tiny_speech("Hubert", "layer")),
    "wav2vec2-layer": ("speech", lambda: tiny_speech("Wav2Vec2", "layer")),
    "wav2vec2-group": ("speech", lambda: tiny_speech("Wav2Vec2", "group")),
    "w2v-bert": ("speech", tiny_w2v_bert),
    "whisper": ("whisper", tiny_whisper),
    "roberta": ("text", lambda: tiny_text("Roberta")),
}
RANDOM = ("dropout", "layerdrop", "mask_time_prob", "mask_feature_prob", "dropout_prob")
_CALM = TemporaryDirectory(prefix="ser-calm-")


def calm_folder(model):
    """Return the folder of a tiny model in which nothing is random in training."""
    kind, made = MODELS[model]
    folder = Path(_CALM.name) / model
    if not folder.exists():
        text = (made() / "config.json").read_text()
        folder.mkdir()
        for file in made().iterdir():
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
    """Write a corpus and a pipeline that fine-tunes one model as `ft`; the pitch says the class."""
    make_corpus(folder, count)
    said = ", ".join(f"{key}: {value}" for key, value in entry(model, **options).items())
    path = folder / "pipeline.yaml"
    path.write_text(
        "corpus: {manifest: m.csv, audio: audio, classes: [angry, sad, neutral]}\n"
        "cache: cache\n"
        "run: run\n"
        f"finetune:\n  ft: {{{said}}}\n{rest}"
    )
    return path


def job(path, *overrides):
    return finetune_job(Pipeline.load(path, overrides), "ft")


def make_tuner(path, *overrides):
    of = job(path, *overrides)
    said = of.config.training
    splits = by_split(of.manifest, of.manifest.utterances())
    rows = {split: labelled(said, of.manifest, us) for split, us in splits.items()}
    return tuner_of(of, resolve(of.config.model), rows, Processes())


def batch(encoder, inputs):
    """Return `(inputs, sizes)` of clips or texts."""
    rows = [encoder.prepare(each) for each in inputs]
    longest = max(len(row) for row, _ in rows)
    first = torch.from_numpy(rows[0][0])
    padded = torch.zeros(len(rows), longest, *first.shape[1:], dtype=first.dtype)
    for into, (row, _) in zip(padded, rows, strict=True):
        into[: len(row)] = torch.from_numpy(row)
    return padded, torch.tensor([(len(row), frames) for row, frames in rows])
