import re
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

from ser.corpus.errors import UserError
from ser.corpus.importers.registry import (
    IMPORTERS,
    SPECS,
    describe,
    import_corpus,
    importer,
    options_of_text,
)
from ser.corpus.manifest import Manifest


def refusal(name: str, folder: Path, **options: object) -> str:
    with pytest.raises(UserError) as caught:
        import_corpus(name, folder, **options)
    return str(caught.value)


def test_the_built_in_corpora_are_registered() -> None:
    names = (
        "aesdd audformat cafe crema-d csv emobox emodb emovo esd files hf iemocap jl-corpus meld "
        "mesd msp-improv msp-podcast ravdess savee shemo subesco tess"
    )
    assert list(IMPORTERS.built_in) == names.split()


@pytest.mark.parametrize("name", IMPORTERS.built_in)
def test_every_importer_documents_its_files_licence_and_citation(name: str) -> None:
    text = describe(name)
    assert "Files" in text
    assert "icence" in text
    assert "Cite" in text or "citation" in text


@pytest.mark.parametrize("name", IMPORTERS.built_in)
def test_an_importer_is_listed_by_the_first_line_of_its_documentation(name: str) -> None:
    entry = IMPORTERS.built_in[name]
    assert IMPORTERS.get(name).__module__ == entry.module
    shipped = (SPECS / f"{name}.yaml").exists()
    text = describe(name) if shipped else sys.modules[entry.module].__doc__
    assert (text or "").startswith(entry.summary + "\n" if shipped else entry.summary)


def test_an_importer_that_returns_no_manifest_is_named(tmp_path: Path) -> None:
    @importer("frame")
    def frame(folder: Path) -> Manifest:
        return pl.DataFrame({"utterance": ["a"]})  # type: ignore[return-value]

    try:
        assert refusal("frame", tmp_path) == (
            f"the importer 'frame' ({__name__}.{frame.__qualname__}) returned a DataFrame, not a "
            "Manifest; return ser.corpus.manifest.Manifest(frame, source=folder)."
        )
    finally:
        IMPORTERS.remove("frame")


def test_an_importer_takes_a_folder() -> None:
    with pytest.raises(UserError, match=r"importer 'none' .*must be \(folder, \*\*options\)"):
        importer("none")(lambda: Manifest(pl.DataFrame()))


def test_an_unknown_name_gets_the_nearest(tmp_path: Path) -> None:
    assert refusal("ravdes", tmp_path) == (
        "corpus import: the importer 'ravdes' is unknown; did you mean 'ravdess'?"
    )


def test_an_unknown_option_gets_the_nearest(tmp_path: Path) -> None:
    assert refusal("crema-d", tmp_path, lable="perceived") == (
        "corpus 'crema-d': there is no option 'lable'; did you mean 'label'?"
    )
    assert refusal("ravdess", tmp_path, zzz=1) == (
        "corpus 'ravdess': there is no option 'zzz'; choose from emotions."
    )


def test_an_unknown_value_gets_the_choices(tmp_path: Path) -> None:
    assert refusal("crema-d", tmp_path, label="percieved") == (
        "option label is 'percieved'; did you mean 'perceived'?"
    )


def test_a_missing_folder_is_reported_in_one_sentence(tmp_path: Path) -> None:
    assert refusal("emodb", tmp_path / "none") == (
        f"{tmp_path / 'none'}: there is no such folder; give the folder of emodb."
    )


def test_importing_the_package_loads_nothing_heavy() -> None:
    code = (
        "import sys, ser.corpus.check, ser.corpus.folds, ser.corpus.importers.registry as r;"
        "[r.IMPORTERS.get(name) for name in r.IMPORTERS.names()];"
        "print([m for m in ('torch', 'sklearn', 'rich.table', 'pandas') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_importer_maps_its_emotions_to_classes(tmp_path: Path) -> None:
    for code in ("01", "02", "05", "08"):
        (tmp_path / f"03-01-{code}-01-01-01-01.wav").touch()
    options = options_of_text(
        "ravdess", {"emotions": "{calm: neutral, neutral: neutral, angry: a}"}
    )
    manifest = import_corpus("ravdess", tmp_path, **options)
    assert manifest.frame["emotion"].to_list() == ["neutral", "neutral", "a", None]
    assert manifest.classes == ("neutral", "a")
    assert manifest.notes == ("without a class, as emotions does not name it: 'surprise' (1 row)",)
    manifest = import_corpus("ravdess", tmp_path, emotions={"calm": "null", "angry": "a"})
    assert manifest.frame["emotion"].to_list() == [None, None, "a", None]
    assert manifest.classes == ("a",)
    for wrong, message in (
        ({"kalm": "x"}, "no utterance has the emotion 'kalm' that is mapped to 'x'; did you mean"),
        ("x", "option emotions is 'x', not a mapping of cells to names; write it as"),
        ({"calm": ""}, "option emotions maps 'calm' to '', which is not a name; write cell: name"),
        ({"calm": "a\nb"}, "option emotions maps 'calm' to 'a\\nb', which has a line break or a"),
    ):
        with pytest.raises(UserError, match=re.escape(message)):
            import_corpus("ravdess", tmp_path, emotions=wrong)
