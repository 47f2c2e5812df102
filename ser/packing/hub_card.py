"""The cards of what is pushed to the hub: README.md with YAML front matter.

The front matter is what the hub's search and its page read: licence, tags, languages, corpora, base
models, and the scores as a model-index. Every value is of the run's own records.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import ZipFile

from ser.cache.features import FeatureCache
from ser.cache.hub import HubRepo
from ser.corpus.errors import plural
from ser.corpus.manifest import Manifest
from ser.extract.registry import card as model_card
from ser.packing.corpora import Terms, corpora_of
from ser.pipeline.file import read_manifest
from ser.predict.archive import CARD
from ser.predict.record import BundleRecord
from ser.predict.runs import read_pipeline
from ser.score.run import SCORED, STACK
from ser.score.scores import read_metrics
from ser.version import DISTRIBUTION, install

if TYPE_CHECKING:
    from huggingface_hub import EvalResult

LICENCES = {  # ids of the hub that are not the name in lower case with hyphens
    "Open Database License": "odbl",
    "GPL-3.0": "gpl-3.0",
}
KNOWN = re.compile(
    r"cc0-1\.0|cc-by(-nc)?(-sa|-nd)?-[234]\.0|apache-2\.0|mit|gpl-[23]\.0|odbl|bsd-[23]-clause"
)
TASK, TAGS = "audio-classification", ["speech-emotion-recognition", "emotion", "audio", "ser"]
METRICS = {  # in metrics.json: the hub's type, and the name to show
    "macro_f1": ("f1", "macro-F1"),
    "uar": ("recall", "UAR"),
    "accuracy": ("accuracy", "accuracy"),
}


def bundle_card(bundle: Path, run: Path, record: BundleRecord, repo: HubRepo) -> str:
    """Return the README.md of a bundle that was packed from a run."""
    from huggingface_hub import ModelCardData

    with ZipFile(bundle) as archive:
        text = archive.read(CARD).decode()
    pipeline = read_pipeline(run)
    manifest = read_manifest(pipeline) if pipeline.corpus.manifest.is_file() else None
    corpora = corpora_of(pipeline.corpus.manifest, manifest)
    scores = [*_scores(run, record, corpora), *_unseen_scores(record)]
    models = {feature.model for feature in record.features.values() if feature.model}
    bases = [card.hub for name in sorted(models) if (card := model_card(name)) is not None]
    data = ModelCardData(
        **hub_licence(record.licence),
        language=_languages(manifest),
        library_name=DISTRIBUTION,
        pipeline_tag=TASK,
        tags=TAGS,
        datasets=list(corpora) or None,
        base_model=bases or None,
        metrics=sorted({score.metric_type for score in scores}) or None,
        model_name=repo.title,
        eval_results=scores or None,
    )
    text = text.replace(install("heads"), install("extract"))  # which has huggingface_hub
    text = text.replace("--run bundle.ser", f"--run {repo}")
    text = text.replace('ser.load("bundle.ser")', f'ser.load("{repo}")')
    return f"---\n{data.to_yaml()}\n---\n\n{text}"


def _scores(run: Path, record: BundleRecord, corpora: tuple[str, ...]) -> "Iterator[EvalResult]":
    """Yield the scores of the packed system on dev and test as the hub's records."""
    path = run / "report" / "metrics.json"
    metrics = read_metrics(path) if path.is_file() else {}
    name = STACK if record.stack is not None else record.heads[0]
    corpus = "+".join(corpora) or "unknown"
    for split in SCORED:
        system = metrics.get(split, {}).get(name)
        if system is None:
            continue
        scores = system.classes.scores if system.classes is not None else {}
        for key, (kind, title) in METRICS.items():
            if key in scores:
                yield _result(corpus, split, kind, title, scores[key].value)
        for attribute, score in system.attributes.items():
            yield _result(corpus, split, "ccc", f"CCC of {attribute}", score.ccc)


def _unseen_scores(record: BundleRecord) -> "Iterator[EvalResult]":
    """Yield the scores of an evaluation on corpora that the model was not trained on."""
    if record.evaluation is not None:
        unseen, corpus = record.evaluation.unseen, "corpora left out of training"
        yield _result(corpus, "test", "accuracy", "accuracy", unseen.accuracy)
        if unseen.macro_f1 is not None:
            yield _result(corpus, "test", "f1", "macro-F1", unseen.macro_f1)


def _result(corpus: str, split: str, kind: str, name: str, value: float) -> "EvalResult":
    from huggingface_hub import EvalResult

    return EvalResult(
        task_type=TASK,
        task_name="speech emotion recognition",
        dataset_type=re.sub(r"[^\w.+-]+", "-", corpus),
        dataset_name=corpus,
        dataset_split=split,
        metric_type=kind,
        metric_name=name,
        metric_value=round(value, 4),
    )


def feature_card(cache: FeatureCache, manifest: Manifest, terms: Terms, repo: HubRepo) -> str:
    """Return the README.md of a feature: what it is, of which corpora, and their licence."""
    from huggingface_hub import DatasetCardData

    index, model = cache.index(), cache.metadata.get("model")
    data = DatasetCardData(
        **hub_licence(terms.licence),
        language=_languages(manifest),
        tags=[*TAGS, "features"],
        pretty_name=repo.title,
        task_categories=[TASK],
    )
    card = model_card(str(model)) if model else None
    rate = cache.metadata.get("frame_rate")
    lines = [
        f"# {repo.title}",
        f"The feature `{cache.name}` of {plural(index.height, 'utterance')} of "
        f"{', '.join(terms.corpora) or 'a corpus'}: {int(index['length'].sum()):,} frames of shape "
        f"{list(cache.item_shape)}{f' at {rate:g} Hz' if rate else ''}. It holds no audio and no "
        "labels.",
        f"- Model: {model or 'none'}{f' ({card.licence})' if card else ''}",
        f"- Fingerprint: `{cache.fingerprint}`, of everything that changes the numbers: "
        f"`{cache.spec}`",
        f"- Licence of the corpus: {terms.licence}. Frames are computed from its audio and fall "
        "under the same terms.",
        f"```\n{install('extract')}\nser cache pull {repo}\n```",
        "The files are a folder of ser's cache: `data.zarr` is a Zarr v3 store with a group per "
        "shard, in which `row` and `length` give the frames of each `utterance`.",
    ]
    return f"---\n{data.to_yaml()}\n---\n\n" + "\n\n".join(lines) + "\n"


def hub_licence(licence: str | None) -> dict[str, Any]:
    """Return the fields of the front matter for the name of a licence."""
    if licence is None:
        return {"license": "unknown"}
    slug = LICENCES.get(licence) or re.sub(r"[^a-z0-9.]+", "-", licence.lower()).strip("-")
    if KNOWN.fullmatch(slug):
        return {"license": slug}
    return {"license": "other", "license_name": slug[:100]}


def _languages(manifest: Manifest | None) -> list[str] | None:
    if manifest is None:
        return None
    return manifest.frame["language"].drop_nulls().unique().sort().to_list() or None
