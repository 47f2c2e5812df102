"""Which corpus a run was trained on, by the names of its manifest and folders; its citations.

And its licence: whether features that were computed from it may be passed on.
"""

import re
from dataclasses import dataclass
from pathlib import Path

from ser.corpus.errors import UserError, listed
from ser.corpus.importers.registry import IMPORTERS
from ser.corpus.manifest import Manifest

DEMO = "demo"  # synthetic speech of `ser demo`
FORMATS = {"audformat", "csv", "emobox", "files", "hf"}  # importers of any corpus
CITED = {  # keys in citations.bib
    "ravdess": ("livingstone2018ravdess",),
    "emodb": ("burkhardt2005database",),
    "crema-d": ("cao2014cremad",),
    "iemocap": ("busso2008iemocap",),
    "msp-podcast": ("lotfian2019building",),
    "emovo": ("costantini2014emovo",),
    "shemo": ("mohamadnezami2019shemo",),
    "esd": ("zhou2022emotional",),
    "meld": ("poria2019meld",),
    DEMO: ("espeakng",),
}
LONGEST_LICENCE = 300  # letters of its name
UNKNOWN_LICENCE = "see its documentation"
# In the licences that the importers state. Features are derivatives of the audio.
NOT_SHARED = re.compile(r"signed|registration|passed on|-ND\b")
SHARED = re.compile(r"CC BY|CC0|Open Database License|synthetic")
SHORTEST = 5  # letters of a name that is also found within a word, as emodb in EmoDB4


def corpus_named(*names: str) -> str | None:
    """Return the corpus that one of the names contains: an importer's name, or `demo`."""
    corpora = sorted({*IMPORTERS.built_in, *CITED} - FORMATS - {DEMO}, key=len, reverse=True)
    for name in names:
        if name == DEMO:
            return DEMO
        words = re.findall(r"[a-z]+", name.lower())
        plain = re.sub(r"[^a-z0-9]", "", name.lower())
        for corpus in corpora:
            letters = corpus.replace("-", "")
            if letters in words or (len(letters) >= SHORTEST and letters in plain):
                return corpus
    return None


def describe_corpus(*names: str) -> str:
    """Describe the corpus that one of the names contains, in one sentence."""
    corpus = corpus_named(*names)
    if corpus == DEMO:
        return "Synthetic speech of `ser demo`: its scores say nothing about real emotion."
    if corpus is not None and corpus in IMPORTERS.built_in:
        return IMPORTERS.built_in[corpus].summary
    return "Its own documentation describes the language, and whether the emotions are acted."


def licence_of(corpus: str) -> str:
    """Return the licence that the documentation of a corpus's importer states."""
    named = corpus_named(corpus)
    if named == DEMO:
        return "synthetic speech"
    if named is None or named not in IMPORTERS.built_in:
        return UNKNOWN_LICENCE
    text = " ".join((IMPORTERS.get(named).__doc__ or "").split())
    stated = re.search(r"Licence: (.+?)\. Cite", text)
    return stated[1] if stated else UNKNOWN_LICENCE


def corpora_of(path: Path, manifest: Manifest | None) -> tuple[str, ...]:
    """Name the corpora of a manifest by its column `corpus`, or by the names of file and folder.

    One that is not known has its name in the column; without that there is none.
    """
    if manifest is not None:
        column = manifest.frame["corpus"].drop_nulls().unique().sort().to_list()
        if column:
            return tuple(dict.fromkeys(corpus_named(name) or name for name in column))
    named = corpus_named(path.stem, path.parent.name)
    return () if named is None else (named,)


def require_licence_name(licence: str | None) -> None:
    """Raise `UserError` for a value of --licence that is not one line of text."""
    if licence is not None and not (
        licence.strip() and licence.isprintable() and len(licence) <= LONGEST_LICENCE
    ):
        raise UserError(f"--licence: give its name in one line of up to {LONGEST_LICENCE} letters.")


@dataclass(frozen=True)
class Terms:
    """The corpora that features were computed from, and the licence under which they are shared."""

    corpora: tuple[str, ...]
    licence: str


def terms_of_features(path: Path, manifest: Manifest, given: str | None) -> Terms:
    """Return the terms under which features of a manifest's audio may be shared.

    `given` is a licence that the user states for corpora whose licence is unknown or unclear.
    Raises `UserError` where a corpus forbids it, where its licence is unclear and none is
    given, and as `require_licence_name` does.
    """
    require_licence_name(given)
    corpora = corpora_of(path, manifest)
    by_name = corpus_named(path.stem, path.parent.name)
    licences = {name: licence_of(name) for name in (*corpora, *([by_name] if by_name else []))}
    for name, licence in licences.items():
        if NOT_SHARED.search(licence):
            raise UserError(
                f"{path}: the licence of {name} ({licence}) does not allow to pass on what is "
                "computed from it; share the pipeline, with which others extract the features."
            )
    unclear = [name for name in corpora if not SHARED.search(licences[name])]
    if given is None and (unclear or not corpora):
        raise UserError(
            f"{path}: whether features of {listed(unclear) or 'its corpus'} may be shared is not "
            "known; if its licence allows it, name that licence with --licence."
        )
    return Terms(corpora, given or "; ".join(dict.fromkeys(licences[name] for name in corpora)))
