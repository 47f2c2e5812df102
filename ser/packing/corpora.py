"""Which corpus a run was trained on, by the names of its manifest and folders; its citations."""

import re

from ser.corpus.importers.registry import IMPORTERS

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
