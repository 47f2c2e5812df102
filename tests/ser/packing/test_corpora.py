"""The corpora of a manifest, and whether their licences let features be shared."""

from pathlib import Path

import polars as pl
import pytest

from ser.corpus.errors import UserError
from ser.corpus.importers.registry import IMPORTERS
from ser.corpus.manifest import Manifest
from ser.packing.corpora import FORMATS, corpora_of, licence_of, terms_of_features


def manifest(*corpora):
    rows = {"utterance": [str(i) for i in range(len(corpora) or 1)]}
    frame = pl.DataFrame(rows | {"path": rows["utterance"]})
    return Manifest(frame.with_columns(corpus=pl.Series(corpora)) if corpora else frame)


def terms(path, *corpora, licence=None):
    return terms_of_features(Path(path), manifest(*corpora), licence)


def test_every_corpus_that_is_built_in_states_a_licence():
    corpora = {*IMPORTERS.built_in} - FORMATS
    assert {name for name in corpora if licence_of(name) == "see its documentation"} == set()


def test_a_corpus_is_named_by_its_column_or_by_file_and_folder():
    assert corpora_of(Path("x/m.csv"), manifest("emodb", "ravdess", "mine")) == (
        *("emodb", "mine", "ravdess"),
    )
    assert corpora_of(Path("crema-d/m.csv"), manifest()) == ("crema-d",)
    assert corpora_of(Path("crema-d/m.csv"), None) == ("crema-d",)
    assert corpora_of(Path("x/m.csv"), manifest()) == ()


@pytest.mark.parametrize("corpus", ["iemocap", "msp-podcast", "msp-improv", "savee", "tess"])
def test_a_corpus_whose_licence_forbids_it_is_refused_whatever_is_given(corpus):
    for path, corpora in ((f"{corpus}/m.csv", ()), ("x/m.csv", ("ravdess", corpus))):
        with pytest.raises(UserError) as error:
            terms(path, *corpora, licence="CC BY 4.0")
        assert f"the licence of {corpus} (" in str(error.value)
        assert "does not allow to pass on what is computed from it; share the" in str(error.value)
    with pytest.raises(UserError, match=f"the licence of {corpus}"):  # by the name of the file
        terms(f"{corpus}.csv", "mine", licence="CC BY 4.0")


def test_an_open_licence_is_that_of_the_features():
    assert terms("ravdess/m.csv").licence == "CC BY-NC-SA 4.0"
    assert terms("x.csv", "ravdess", "crema-d").licence == "Open Database License; CC BY-NC-SA 4.0"
    assert terms("demo/m.csv").licence == "synthetic speech"


def test_a_licence_that_is_not_clear_has_to_be_given():
    for path, corpora, named in (
        ("x/m.csv", (), "its corpus"),
        ("x/m.csv", ("ravdess", "meld", "mine"), "meld, mine"),
    ):
        with pytest.raises(UserError, match=f"whether features of {named} may be shared is not"):
            terms(path, *corpora)
        assert terms(path, *corpora, licence="CC0").licence == "CC0"
