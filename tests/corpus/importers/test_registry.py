import subprocess
import sys
from pathlib import Path

import pytest

from corpus.errors import UserError
from corpus.importers.registry import describe, import_corpus, names


def refusal(name: str, folder: Path, **options: object) -> str:
    with pytest.raises(UserError) as caught:
        import_corpus(name, folder, **options)
    return str(caught.value)


def test_the_built_in_corpora_are_known() -> None:
    assert names() == ["crema-d", "csv", "emodb", "iemocap", "msp-podcast", "ravdess"]


@pytest.mark.parametrize("name", names())
def test_every_importer_says_its_files_licence_and_citation(name: str) -> None:
    text = describe(name)
    assert "Files" in text
    assert "icence" in text
    assert "Cite" in text or "citation" in text


def test_an_unknown_name_gets_the_nearest(tmp_path: Path) -> None:
    assert refusal("ravdes", tmp_path) == (
        "corpus 'ravdes' is unknown (did you mean 'ravdess'?); there are importers for: "
        "crema-d, csv, emodb, iemocap, msp-podcast, ravdess."
    )


def test_an_unknown_option_gets_the_nearest(tmp_path: Path) -> None:
    assert refusal("crema-d", tmp_path, lable="perceived") == (
        "corpus 'crema-d': there is no option 'lable' (did you mean 'label'?); "
        "its options are: label, modality."
    )
    assert refusal("ravdess", tmp_path, zzz=1) == (
        "corpus 'ravdess': there is no option 'zzz'; its options are: none."
    )


def test_an_unknown_value_gets_the_choices(tmp_path: Path) -> None:
    assert refusal("crema-d", tmp_path, label="percieved") == (
        "option label is 'percieved' (did you mean 'perceived'?); use one of: intended, perceived."
    )


def test_a_missing_folder_is_one_sentence(tmp_path: Path) -> None:
    assert refusal("emodb", tmp_path / "none") == (
        f"{tmp_path / 'none'}: there is no such folder; give the one 'emodb' lies in."
    )


def test_importing_the_package_loads_nothing_heavy() -> None:
    code = (
        "import sys, corpus.check, corpus.folds, corpus.importers.registry as r; r.names();"
        "print([m for m in ('torch', 'sklearn', 'rich.table', 'pandas') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
