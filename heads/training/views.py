"""The views of a head's features: when they fit, and whose weights they are of."""

from collections.abc import Mapping, Sequence

from ser.cache.features import FeatureCache
from ser.corpus.errors import UserError

Views = Mapping[str, Mapping[str, FeatureCache]]  # feature -> view -> its cache


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


def _weights(cache: FeatureCache) -> object:
    return cache.spec.get("weights")
