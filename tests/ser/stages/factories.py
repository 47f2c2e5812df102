"""A corpus of three speakers with a pipeline of one small head."""

import polars as pl

from ser.pipeline.file import Pipeline
from tests.ser.factories import make_corpus

SPEAKERS = ("a", "b", "c")


def pipeline_of(folder, section="{}"):
    """Write a corpus of three speakers and a pipeline of one small head."""
    frame = make_corpus(folder, 18)
    speakers = pl.Series("speaker", [SPEAKERS[i // 3 % 3] for i in range(18)])
    frame.with_columns(speakers).write_csv(folder / "m.csv")
    (folder / "pipeline.yaml").write_text(
        "corpus: {manifest: m.csv, audio: audio, classes: [angry, sad, neutral]}\n"
        "cache: cache\nrun: run\nfeatures:\n  prosody: {kind: prosody}\n"
        "heads:\n  one: {head: mean_mlp, features: [prosody], hidden: 4, epochs: 1}\n"
        f"stack: {{model: mean_logits}}\nscore: {{resamples: 20}}\ncv: {section}\n"
    )
    return Pipeline.load(folder / "pipeline.yaml")
