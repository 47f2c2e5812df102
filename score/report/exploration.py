"""What a corpus and its embeddings are like: what the report shows beside the scores.

The map is a projection of pooled embeddings (each utterance's frames of one feature, averaged over
time) on their first two principal components. Beside it is a number: the silhouette (Rousseeuw
1987) of the utterances by class, by speaker and by corpus, of the standardised embeddings in all
their dimensions: 1 where the groups are far apart, 0 where they overlap. A feature whose utterances
group by speaker much more than by class describes voices rather than emotions.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from ser.cache.features import FeatureCache
from ser.corpus.manifest import Manifest

MOST = 2000  # utterances on the map
FEWEST = 10  # utterances that a map needs
SEED = 0  # of the choice of utterances
BINS = 30  # of the durations
COLOURED = ("emotion", "speaker", "corpus")


@dataclass(frozen=True)
class EmbeddingMap:
    """Utterances on two principal components.

    `points` has x, y, and those of emotion, speaker and corpus that have two values or more;
    `silhouette` has the silhouette by each of these; `explained` is the share of the variance that
    the two components have; `of` counts the utterances that the points were chosen from.
    """

    feature: str
    points: pl.DataFrame
    silhouette: dict[str, float]
    explained: float
    of: int


@dataclass(frozen=True)
class Exploration:
    """What the report shows of a corpus; None or empty is what is not known.

    `counts` has emotion and speaker, a row per utterance with an emotion; `languages` has corpus,
    language, utterances and speakers; `durations` are in seconds, from `timed_by`; `layers` are the
    weights of summed layers by head and feature.
    """

    counts: pl.DataFrame | None = None
    languages: pl.DataFrame | None = None
    durations: np.ndarray | None = None
    timed_by: str = ""
    embeddings: EmbeddingMap | None = None
    layers: Mapping[str, Mapping[str, Sequence[float]]] | None = None


def explore(
    manifest: Manifest | None,
    feature: FeatureCache | None = None,
    layers: Mapping[str, Mapping[str, Sequence[float]]] | None = None,
) -> Exploration:
    """Gather what a corpus is like.

    Args:
        manifest: the corpus; None where it is not on this machine.
        feature: the cached frames that the map is made of.
        layers: the learned weights of summed layers, by head and feature.
    """
    if manifest is None:
        return Exploration(layers=layers)
    frame = manifest.frame
    labelled = frame.filter(pl.col("emotion").is_not_null()).select("emotion", "speaker", "split")
    durations, timed_by = _durations(frame, feature)
    return Exploration(
        counts=labelled if labelled.height else None,
        languages=_languages(frame),
        durations=durations,
        timed_by=timed_by,
        embeddings=None if feature is None else map_embeddings(frame, feature),
        layers=layers,
    )


def _languages(frame: pl.DataFrame) -> pl.DataFrame | None:
    """Count utterances and speakers by corpus and language; None where neither is known."""
    labelled = frame.filter(pl.any_horizontal(pl.col("corpus", "language").is_not_null()))
    if not labelled.height:
        return None
    return (
        frame.group_by("corpus", "language")
        .agg(utterances=pl.len(), speakers=pl.col("speaker").drop_nulls().n_unique())
        .sort("corpus", "language", nulls_last=True)
    )


def _durations(frame: pl.DataFrame, feature: FeatureCache | None) -> tuple[np.ndarray | None, str]:
    """Return the seconds of every utterance, and what they are from."""
    if frame["end"].null_count() == 0 and frame.height:
        return (frame["end"] - frame["start"].fill_null(0.0)).to_numpy(), "the manifest"
    rate = None if feature is None else feature.metadata.get("frame_rate")
    if feature is None or not isinstance(rate, int | float) or rate <= 0:
        return None, ""
    cached = feature.snapshot().find(frame["utterance"].to_list())
    lengths = feature.snapshot().length[cached[cached >= 0]]
    return (lengths / rate if len(lengths) else None), f"the frames of {feature.name}"


def map_embeddings(frame: pl.DataFrame, feature: FeatureCache) -> EmbeddingMap | None:
    """Project up to 2,000 utterances with an emotion on two principal components.

    `frame` has the columns of a manifest. None where too few are cached, or all frames are the
    same. Raises `UserError` for a damaged cache.
    """
    from sklearn.decomposition import PCA

    rows = frame.filter(pl.col("emotion").is_not_null())
    rows = rows.filter(pl.Series(feature.snapshot().find(rows["utterance"].to_list()) >= 0))
    of = rows.height
    if of > MOST:
        chosen = np.random.default_rng(SEED).choice(of, MOST, replace=False)
        rows = rows[np.sort(chosen).tolist()]
    if rows.height < FEWEST:
        return None
    pooled = np.stack([_pooled(feature.frames(u)) for u in rows["utterance"]])
    deviation = pooled.std(axis=0)
    varied = deviation > 0
    if varied.sum() < 2:
        return None
    values = (pooled[:, varied] - pooled[:, varied].mean(axis=0)) / deviation[varied]
    pca = PCA(2, svd_solver="full")
    places = pca.fit_transform(values).round(3)
    columns = [name for name in COLOURED if rows[name].drop_nulls().n_unique() > 1]
    points = pl.DataFrame({"x": places[:, 0], "y": places[:, 1]}).with_columns(rows[columns])
    scores = {name: _silhouette(values, rows[name]) for name in columns}
    return EmbeddingMap(
        feature.name,
        points,
        {name: score for name, score in scores.items() if score is not None},
        float(pca.explained_variance_ratio_.sum()),
        of,
    )


def _pooled(frames: np.ndarray) -> np.ndarray:
    """Return the mean over time, and over layers where there are several: float64 `(dim,)`."""
    mean: np.ndarray = frames.mean(axis=tuple(range(frames.ndim - 1)), dtype=np.float64)
    return mean


def _silhouette(values: np.ndarray, groups: pl.Series) -> float | None:
    """Return the silhouette of the rows whose group is known; None where it is not defined."""
    from sklearn.metrics import silhouette_score

    labelled = groups.is_not_null().to_numpy()
    labels = groups.drop_nulls().to_list()
    if not 1 < len(set(labels)) < len(labels):
        return None
    return float(silhouette_score(values[labelled], labels))
