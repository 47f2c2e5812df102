"""Augmented views of a head's features: training clips once more, as rows beside the clean ones.

1. A feature and its views are read as one cache: row `u` is the clean utterance, row `noise\\0u`
   the same utterance in the view ("\\0", because an id may hold any other character).
2. A clip is in a view when every feature of the head that has the view holds it; else all of them
   are read clean, so that the features of one draw are never of different audio. A feature that
   has no such view (text: the words stay what they were) is read clean in any case.

Nothing is copied: the join costs an index row per view and training clip.
"""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import polars as pl

from ser.cache.features import FeatureCache
from ser.cache.shard import Shard
from ser.corpus.errors import UserError

Views = Mapping[str, Mapping[str, FeatureCache]]  # feature -> view -> its cache


class FeatureViews(FeatureCache):
    """Read a feature and views of it as one cache; it is never written to.

    `changed` names, for each view, the utterances to be read from it. Every one of `utterances` has
    a row in every view, the clean one where it is not in `changed`.
    """

    def __init__(
        self,
        clean: FeatureCache,
        views: Mapping[str, FeatureCache],
        utterances: Sequence[str],
        changed: Mapping[str, Sequence[str]],
    ) -> None:
        super().__init__(clean.path, clean.remote)
        self._caches = {"": clean, **views}
        self._utterances, self._changed = utterances, changed

    def _all_rows(self) -> pl.DataFrame:
        clean = self._caches[""].index()
        selected = _only(clean, self._utterances)
        parts = [clean]
        for view, changed in self._changed.items():
            view_index = clean.clear()
            if view in self._caches:
                view_index = _only(self._caches[view].index(), changed)
                # the view is in the shard's name too, since copied folders share the names
                view_index = view_index.with_columns(shard=pl.lit(f"{view}\0") + pl.col("shard"))
            rows = pl.concat([view_index, selected.join(view_index, on="utterance", how="anti")])
            parts.append(rows.with_columns(utterance=pl.lit(f"{view}\0") + pl.col("utterance")))
        return pl.concat(parts)

    def shard(self, name: str) -> Shard:
        """Map a shard of the feature or of a view, once."""
        view, _, shard = name.rpartition("\0")
        return self._caches[view].shard(shard)


def view_rows(views: Iterable[str], utterances: Sequence[str]) -> list[str]:
    """Return the ids of the rows of views: all utterances of the first view, then of the next."""
    return [f"{view}\0{utterance}" for view in views for utterance in utterances]


def join_views(
    features: Mapping[str, FeatureCache], views: Views, names: Sequence[str], train: Sequence[str]
) -> dict[str, FeatureViews]:
    """Return the features of one head with rows of the named views for the training utterances."""
    by_feature = {
        feature: {view: views[feature][view] for view in names if view in views.get(feature, {})}
        for feature in features
    }
    changed = {}
    for view in names:
        cached = [c[view].snapshot().find(train) >= 0 for c in by_feature.values() if view in c]
        changed[view] = pl.Series(train).filter(np.all(cached, axis=0)).to_list()
    return {
        feature: FeatureViews(clean, by_feature[feature], train, changed)
        for feature, clean in features.items()
    }


def require_views(
    head: str, features: Mapping[str, FeatureCache], views: Views, names: Sequence[str]
) -> None:
    """Raise `UserError` for a view that no feature has, or that was extracted by other weights."""
    for view in names:
        having = {f: views[f][view] for f in features if view in views.get(f, {})}
        if not having:
            raise UserError(
                f"heads.{head}.views: none of its features has the view '{view}'; put it under "
                "`augment:` of one and extract it, or leave it out."
            )
        for feature, cache in having.items():
            if _weights(cache) != _weights(features[feature]):
                raise UserError(
                    f"{cache.location}: the weights are not those of "
                    f"{features[feature].location}, whose view it is; run `ser extract {feature}`."
                )


def _only(rows: pl.DataFrame, utterances: Sequence[str]) -> pl.DataFrame:
    return rows.filter(pl.col("utterance").is_in(list(utterances)))


def _weights(cache: FeatureCache) -> object:
    return cache.metadata["spec"].get("weights")
