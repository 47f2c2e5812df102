"""`ser cache push` and `ser cache pull`: features to and from the Hugging Face hub."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ser.commands.cache_exchange import open_feature
from ser.commands.cache_info import cache_root
from ser.commands.help import argument, command, flag, option
from ser.commands.logs import result
from ser.commands.options import PIPELINE, CacheFolder, Overrides, PipelineFile, load_pipeline
from ser.corpus.errors import UserError, plural

if TYPE_CHECKING:
    from ser.cache.features import FeatureCache
    from ser.corpus.manifest import Manifest

app = typer.Typer()


@command(
    app,
    "ser cache push whisper hf:owner/ravdess-whisper\n"
    "ser cache push prosody hf:owner/calls-prosody --licence CC-BY-4.0 --private",
)
def push(
    feature: Annotated[str, argument("FEATURE", "Feature to push.")],
    place: Annotated[
        str,
        argument("hf:OWNER/NAME", "Repository of data sets; created if it does not exist."),
    ],
    *,
    licence: Annotated[
        str | None,
        option(
            "TEXT",
            "Licence of the corpus, where ser does not know it; by default the one that its "
            "importer states.",
        ),
    ] = None,
    private: Annotated[bool, flag("--private", "Create the repository as a private one.")] = False,
    path: PipelineFile = PIPELINE,
    overrides: Overrides = None,
) -> None:
    """Push a feature of the pipeline to the Hugging Face hub, with its card.

    Refused where the licence of the corpus forbids to pass on what is computed from it.
    """
    from ser.cache.features import FeatureCache
    from ser.cache.hub import HubRepo
    from ser.cache.hub_features import push_feature
    from ser.packing.corpora import terms_of_features
    from ser.packing.hub_card import feature_card
    from ser.pipeline.file import read_manifest

    repo = HubRepo.parse(place, "feature")
    repo.require_writable()
    pipeline = load_pipeline(path, overrides)
    manifest = read_manifest(pipeline)
    terms = terms_of_features(pipeline.corpus.manifest, manifest, licence)
    cache = open_feature(pipeline, feature)
    if not isinstance(cache, FeatureCache):
        raise UserError(
            f"{cache.location}: '{feature}' holds transcripts; push a feature of frames."
        )
    _require_shareable(cache, manifest)
    commit = push_feature(cache, repo, feature_card(cache, manifest, terms, repo), private)
    count = plural(cache.index().height, "utterance")
    result(f"{repo}@{commit}: {count} pushed; `ser cache pull {repo}` gets them")


def _require_shareable(cache: "FeatureCache", manifest: "Manifest") -> None:
    """Raise `UserError` for utterances of another corpus, and for a model in a local folder."""
    others = set(cache.index()["utterance"]) - set(manifest.frame["utterance"])
    if others:
        raise UserError(
            f"{cache.location}: {plural(len(others), 'utterance')} in it, as '{min(others)}', are "
            "not in the manifest, so their licence is not known; extract this corpus to a cache of "
            "its own."
        )
    model = cache.metadata.get("model")
    if isinstance(model, str) and (Path(model).is_absolute() or Path(model).exists()):
        raise UserError(
            f"{cache.location}: its model is a folder of this machine ({model}), which others "
            "lack; extract with a model of the hub."
        )


@command(
    app,
    "ser cache pull hf:owner/ravdess-whisper\n"
    "ser cache pull hf:owner/ravdess-whisper@main --cache data/cache",
)
def pull(
    place: Annotated[
        str,
        argument("hf:OWNER/NAME", "Repository, perhaps with @revision."),
    ],
    *,
    root: CacheFolder = None,
    path: PipelineFile = PIPELINE,
    overrides: Overrides = None,
) -> None:
    """Add a feature of the Hugging Face hub to the cache.

    All checksums are compared before it is added.
    """
    from ser.cache.hub import HubRepo
    from ser.cache.hub_features import pull_feature

    repo = HubRepo.parse(place, "feature")
    root = root or cache_root(load_pipeline(path, overrides))
    pulled = pull_feature(repo, root)
    result(
        f"{root}/{pulled.feature}/{pulled.fingerprint}: {plural(pulled.utterances, 'utterance')}, "
        f"checksums OK, {plural(pulled.new_shards, 'new shard')}"
    )
