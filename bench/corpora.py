"""A small corpus: what `ser cv` gave, beside scikit-learn on the same frames and rotations.

    ser cv --pipeline presets/acted-speakers.yaml
    python -m bench.corpora presets/acted-speakers.yaml --features tiny base

Each system is scored on the pooled test predictions of all rotations: macro-F1 with its interval
over speakers, and where `ser cv` had several seeds, the mean and deviation of their macro-F1. The
others are what a competent user would write in ten lines, fitted anew in every rotation:

logistic regression  mean and deviation of the features over time, side by side, standardised on
                     train, L2 (C = 0.01), classes balanced; and the same with each speaker's own
                     mean and deviation, which uses unlabelled test clips
SVC, neighbours      on the same vectors: RBF kernel (C = 1), and the 15 nearest clips
SVC on eGeMAPS       88 functionals (opensmile), standardised, RBF kernel (C = 1), balanced

`--cv none` compares them on the split of the manifest, after `ser run`; `--set` is that of `ser`.
"""

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import polars as pl
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from bench.report import Row, arguments, show
from ser.cache.features import FeatureCache
from ser.corpus.audio import load
from ser.corpus.manifest import Manifest
from ser.pipeline.file import Pipeline, read_manifest
from ser.pipeline.jobs import heads_job
from ser.score.external_scores import score_external
from ser.score.rotations import FILE, Rotations
from ser.score.run import score_run
from ser.score.scores import SystemScores
from ser.score.truth import manifest_truth
from ser.stages.cv import pooled_file

Vectors = Mapping[str, np.ndarray]  # of each utterance, (dim,)


def main() -> None:
    parser = arguments(__doc__ or "")
    parser.add_argument("pipeline", type=Path)
    parser.add_argument("--cv", default="speaker", help="the cross-validation, as speaker-6-groups")
    parser.add_argument("--features", nargs="+", default=["whisper"], help="those that are pooled")
    parser.add_argument("--layer", type=int, default=2, help="of a feature with all layers")
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.KEY=VALUE")
    args = parser.parse_args()
    pipeline = Pipeline.load(args.pipeline, args.set)
    rotated = args.cv != "none"
    pooled = Pipeline.load(pooled_file(pipeline, args.cv)) if rotated else pipeline
    manifest = read_manifest(pooled)
    rotations = Rotations.read(pooled.run / FILE) if rotated else None
    splits = _splits(pooled, rotations)
    features = heads_job(pooled).features
    caches = [features[name] for name in args.features]
    pooled_frames = pool(caches, manifest.utterances(), args.layer)
    by_speaker = speaker_scores(pooled_frames, manifest)
    logistic = LogisticRegression(C=0.01, class_weight="balanced", max_iter=5000)
    svc = SVC(C=1.0, class_weight="balanced")
    sides: list[tuple[str, Vectors, Any]] = [
        ("logistic regression", pooled_frames, logistic),
        ("logistic regression, by speaker", by_speaker, logistic),
        ("SVC", pooled_frames, svc),
        ("SVC, by speaker", by_speaker, svc),
        ("nearest neighbours", pooled_frames, KNeighborsClassifier(15)),
    ]
    if not args.quick:
        sides.append(("SVC, eGeMAPS functionals", functionals(manifest), svc))
    with TemporaryDirectory() as folder:
        tables = [Path(folder) / f"{name}.csv" for name, _, _ in sides]
        for file, (_, vectors, classifier) in zip(tables, sides, strict=True):
            predict(vectors, manifest, splits, classifier).write_csv(file)
        truth = manifest_truth(manifest, (), pooled.score.secondary_votes)
        others = score_external(tables, truth, manifest.classes, pooled.score).metrics["test"]
    rows = _of_run(pooled, rotations)
    rows += [_row(Path(name).stem, scores, []) for name, scores in others.items()]
    note = f"{args.pipeline}, cross-validation: {args.cv}; {len(manifest)} clips"
    show(args, {"macro-F1, pooled test predictions": rows}, note)


def _splits(pooled: Pipeline, rotations: Rotations | None) -> list[dict[str, list[str]]]:
    """Return train and test of every rotation, or of the pipeline's own manifest."""
    runs = [pooled.run / part.name for part in rotations.rotations] if rotations else []
    pipelines = [Pipeline.load(run / "pipeline.yaml") for run in runs] or [pooled]
    manifests = [read_manifest(pipeline) for pipeline in pipelines]
    return [{split: m.utterances(split) for split in ("train", "test")} for m in manifests]


def pool(
    caches: Sequence[FeatureCache], utterances: Sequence[str], layer: int
) -> dict[str, np.ndarray]:
    """Return the mean and deviation over time of each utterance's frames, feature by feature.

    Of a feature with all its layers `layer` is taken.
    """
    vectors = {}
    for utterance in utterances:
        statistics: list[np.ndarray] = []
        for cache in caches:
            frames = cache.frames(utterance).astype(np.float64)
            frames = frames[:, layer] if frames.ndim == 3 else frames
            statistics += [frames.mean(axis=0), frames.std(axis=0)]
        vectors[utterance] = np.concatenate(statistics)
    return vectors


def speaker_scores(vectors: Vectors, manifest: Manifest) -> dict[str, np.ndarray]:
    """Return each utterance's vector standardised by all of its speaker's clips."""
    utterances = list(vectors)
    values = np.stack(list(vectors.values()))
    speakers = np.array(manifest.column("speaker", utterances))
    for speaker in set(speakers):
        rows = speakers == speaker
        values[rows] = StandardScaler().fit_transform(values[rows])
    return dict(zip(utterances, values, strict=True))


def functionals(manifest: Manifest) -> dict[str, np.ndarray]:
    """Return the 88 eGeMAPS functionals of every clip."""
    import opensmile

    smile = opensmile.Smile(
        opensmile.FeatureSet.eGeMAPSv02, opensmile.FeatureLevel.Functionals, num_workers=1
    )
    folder, vectors = manifest.audio_folder(None), {}
    for row in manifest.frame.select("utterance", "path", "start", "end").iter_rows():
        utterance, path, start, end = row
        wave = load(folder / path, start, end)
        vectors[utterance] = smile.process_signal(wave, 16_000).to_numpy()[0]
    return vectors


def predict(
    vectors: Vectors,
    manifest: Manifest,
    splits: Sequence[Mapping[str, Sequence[str]]],
    classifier: Any,
) -> pl.DataFrame:
    """Fit a classifier of standardised vectors in every rotation; return its test predictions."""
    rows = []
    for split in splits:
        labels = manifest.labels(split["train"])
        train = [u for u, label in zip(split["train"], labels, strict=True) if label >= 0]
        model = make_pipeline(StandardScaler(), clone(classifier)).fit(
            np.stack([vectors[u] for u in train]), labels[labels >= 0]
        )
        predicted = model.predict(np.stack([vectors[u] for u in split["test"]]))
        names = [manifest.classes[label] for label in predicted]
        rows += list(zip(split["test"], names, strict=True))
    return pl.DataFrame(rows, ["utterance", "prediction"], orient="row")


def _of_run(pooled: Pipeline, rotations: Rotations | None) -> list[Row]:
    """Return a row for each system of the run: its interval, and its seeds where there are any."""
    repetitions = rotations.repetitions if rotations else ()
    metrics = score_run(pooled.run, pooled.score, pooled.systems, read_manifest(pooled))["test"]
    rows = []
    for name, scores in metrics.items():
        seeds = [r.scores[name]["macro_f1"] for r in repetitions if name in r.scores]
        rows.append(_row(name, scores, seeds))
    return rows


def _row(name: str, scores: SystemScores, seeds: Sequence[float]) -> Row:
    assert scores.classes is not None
    f1 = scores.classes.scores["macro_f1"]
    text = "%"
    if f1.interval is not None:
        text += " [{:.1f}, {:.1f}]".format(*(100 * edge for edge in f1.interval))
    if len(seeds) > 1:
        mean, deviation = statistics.mean(seeds), statistics.stdev(seeds)
        text += f"; {len(seeds)} seeds: {100 * mean:.1f} ± {100 * deviation:.1f}"
    return Row(name, 100 * f1.value, text)


if __name__ == "__main__":
    main()
