"""The share of synthetic speech that a run was trained on, by the records of heads and models."""

import contextlib
from collections.abc import Iterable, Mapping
from pathlib import Path

from ser.corpus.errors import UserError
from ser.corpus.manifest import Manifest
from ser.extract.extractor import FeatureOptions
from ser.heads.record import read_done


def synthetic_share(
    run: Path, heads: Iterable[str], features: Mapping[str, FeatureOptions], manifest: Path | None
) -> float | None:
    """Return the largest share of synthetic speech that any part of a run was trained on, 0 to 1.

    Args:
        run: the folder of the run.
        heads: the names of the heads in use.
        features: the options of the features that they read; a fine-tuned model has a record too.
        manifest: read where a record has no share, as in earlier versions; None for a bundle, whose
            pipeline may name any file.

    None where it is unknown.
    """
    folders = [Path(options.pretrained or "") for options in features.values()]
    models = [folder for folder in folders if folder.parent.name == "finetuned"]
    parts = [(run, name) for name in heads]
    parts += [(folder.parent.parent, folder.name) for folder in models]
    shares = [_recorded(folder, name) for folder, name in parts]
    if None in shares and manifest is not None:
        shares.append(_share_of(manifest))
    return max((share for share in shares if share is not None), default=None)


def _recorded(run: Path, name: str) -> float | None:
    with contextlib.suppress(UserError):
        record = read_done(run, name)
        return None if record is None else record.synthetic
    return None


def _share_of(path: Path) -> float | None:
    """Return the share of the training clips of a manifest, None where it cannot be read."""
    with contextlib.suppress(UserError):
        manifest = Manifest.read(path)
        return manifest.synthetic_share(manifest.utterances("train"))
    return None
