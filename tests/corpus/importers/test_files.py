import time
from pathlib import Path

import pytest

from ser.corpus.errors import UserError
from ser.corpus.importers.registry import import_corpus
from ser.corpus.importers.spec import read_spec
from ser.corpus.manifest import Manifest

SPEC = r"""
pattern: (?P<speaker>(?P<sex>[fm])\d)/(?P<session>s\d)_(?P<code>[a-z]+)_(?P<number>\d)
columns:
  utterance: "{speaker}-{session}-{code}-{number}"
  gender: {group: sex, values: {f: female, m: male}}
  emotion: {group: code, values: {h: happy, no: angry}}
  fold: {group: speaker, values: {f1: 01, m2: no}}
  place: studio {session}
"""
FILES = ("f1/s1_h_1.wav", "f1/s2_no_1.wav", "m2/s1_h_1.flac", "m2/s1_q_1.wav")


def corpus(folder: Path, *files: str) -> Path:
    for file in files:
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).touch()
    return folder


def imported(folder: Path, text: str) -> Manifest:
    spec = folder / "my.yaml"
    spec.write_text(text, encoding="utf-8")
    return import_corpus("files", folder, spec=spec)


def refusal(folder: Path, text: str) -> str:
    with pytest.raises(UserError) as caught:
        imported(folder, text)
    return str(caught.value).replace(f"{folder}/", "")


def test_groups_fill_columns(tmp_path: Path) -> None:
    manifest = imported(corpus(tmp_path, *FILES, "m2/s1_h_1.wav", "m2/other.wav"), SPEC)
    assert manifest.classes == ("happy", "angry")
    columns = ["utterance", "path", "speaker", "gender", "emotion", "session", "fold", "place"]
    assert manifest.frame.select(columns).rows() == [
        ("f1-s1-h-1", FILES[0], "f1", "female", "happy", "s1", "01", "studio s1"),
        ("f1-s2-no-1", FILES[1], "f1", "female", "angry", "s2", "01", "studio s2"),
        ("m2-s1-h-1", FILES[2], "m2", "male", "happy", "s1", "no", "studio s1"),
        ("m2-s1-q-1", FILES[3], "m2", "male", None, "s1", "no", "studio s1"),
    ]
    assert manifest.notes == (
        "no emotion for 'q' (1 file), which its values do not name",
        "files that do not match the pattern: 1 of 5, as m2/other.wav",
    )


def test_classes_and_splits_may_be_given(tmp_path: Path) -> None:
    corpus(tmp_path, "a_sad.wav", "b_ok.wav")
    text = "pattern: (?P<speaker>.)_(?P<emotion>.+)\nclasses: [sad, ok, other]\ncolumns:\n"
    text += "  split: {group: speaker, values: {a: train, b: test}}\n"
    manifest = imported(tmp_path, text)
    assert manifest.classes == ("sad", "ok")
    assert manifest.frame["split"].to_list() == ["train", "test"]
    assert manifest.frame["utterance"].to_list() == ["a_sad", "b_ok"]
    assert manifest.notes == ()
    assert refusal(tmp_path, text.replace(", ok", "")) == (
        "my.yaml: the emotion 'ok' is not one of the classes (sad, other); add it to `classes` or "
        "to the values of the column emotion."
    )


def test_clips_that_share_an_id_are_one_only_if_they_are_copies(tmp_path: Path) -> None:
    corpus(tmp_path, "x/a/01.wav", "y/a/01.wav")
    text = "pattern: (?P<speaker>[ab])/(?P<session>[0-9]+)"
    assert imported(tmp_path, text).frame["path"].to_list() == ["x/a/01.wav"]
    corpus(tmp_path, "y/b/01.wav")
    assert refusal(tmp_path, text) == (
        "my.yaml: 'x/a/01.wav' and 'y/b/01.wav' are both called '01'; make ids of groups under "
        "`columns`, as utterance: '{speaker}-{number}'."
    )


def test_files_of_different_size_are_no_copies(tmp_path: Path) -> None:
    corpus(tmp_path, "x/a1.wav", "y/a2.wav")
    text = "pattern: (?P<speaker>a)[12]\ncolumns: {utterance: '{speaker}'}"
    assert imported(tmp_path, text).frame["path"].to_list() == ["x/a1.wav"]
    (tmp_path / "y/a2.wav").write_bytes(b"RIFF")
    assert refusal(tmp_path, text).startswith("my.yaml: 'x/a1.wav' and 'y/a2.wav' are both called")


def test_a_value_without_text_is_unknown(tmp_path: Path) -> None:
    corpus(tmp_path, "a_1.wav", "b_2.wav", "c_3.wav")
    text = "pattern: (?P<speaker>.)_(?P<emotion>.)\ncolumns:\n"
    text += "  speaker: ''\n  emotion: {values: {1: '', 2: null, 3: sad}}\n"
    manifest = imported(tmp_path, text)
    assert manifest.classes == ("sad",)
    assert manifest.frame["emotion"].to_list() == [None, None, "sad"]
    assert manifest.frame["speaker"].to_list() == [None, None, None]


def test_a_yaml_that_is_a_folder_is_named_as_such(tmp_path: Path) -> None:
    corpus(tmp_path, "a.wav")
    with pytest.raises(UserError) as caught:
        import_corpus("files", tmp_path, spec=tmp_path)
    assert str(caught.value) == f"{tmp_path}: it is not a file; write it, or correct the name."


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "my.yaml: it has no keys; write `pattern: …` and `columns: …`."),
        ("classes: [a]", "my.yaml: pattern: the value is missing; give one."),
        (
            "pattern: (?P<speaker>a)(?=b)",
            "my.yaml:1: pattern: look-around, including look-ahead and look-behind, is not "
            "supported; correct the regular expression.",
        ),
        (
            "pattern: (?P<speaker>a)\ncolumns:\n  gender: {group: sex, values: {a: b}}",
            "my.yaml: the column 'gender' uses the group 'sex', which the pattern does not have "
            "(its groups: speaker); name the group in the pattern as (?P<name>…).",
        ),
        (
            "pattern: (?P<speaker>a)\ncolumns:\n  gender:\n    value: {a: b}",
            "my.yaml:4: there is no key 'value'; did you mean 'values'?",
        ),
        (
            "pattern: a)|(b",
            "my.yaml:1: pattern: unopened group; correct the regular expression.",
        ),
        ("pattern: [a]", "my.yaml:1: pattern: it must be text; write one text, in quotes."),
        ("pattern: ''", "my.yaml:1: pattern: it is empty; give a text."),
        ("pattern: a\nclasses: b", "my.yaml:2: classes: it must be a list; write [b]."),
        (
            "pattern: a\nclasses: [b, c, b]",
            "my.yaml:2: classes: the class 'b' is named twice; name it once.",
        ),
        ("pattern: a\nclasses: [b, '']", "my.yaml:2: classes.1: it is empty; give a text."),
        (
            'pattern: a\nclasses: ["b\\nc"]',
            "my.yaml:2: classes.0: 'b\\nc' has a line break or a control character; remove it.",
        ),
        (
            "pattern: a\ncolumns: b",
            "my.yaml:2: columns: it must be a mapping; write {key: value}.",
        ),
        (
            "pattern: a\ncolumns: {Speaker: b}",
            "my.yaml:2: columns: a manifest has no column 'Speaker'; write it as speaker.",
        ),
        ("pattern: a\nclases: [b]", "my.yaml:2: there is no key 'clases'; did you mean 'classes'?"),
        (
            "pattern: a\ncolumns: {path: b}",
            "my.yaml:2: columns: the path is that of the file; remove the column.",
        ),
        (
            f"pattern: {'a' * 1001}",
            "my.yaml:1: pattern: it must have at most 1000 characters; correct the value.",
        ),
        (
            "pattern: (?P<speaker>zz)\nexample: zz",
            "none of its 1 audio file matches the pattern of my.yaml; a path that would match is "
            "zz.",
        ),
    ],
)
def test_a_wrong_yaml_is_reported_in_one_sentence(tmp_path: Path, text: str, sentence: str) -> None:
    corpus(tmp_path, "a.wav")
    assert refusal(tmp_path, text).endswith(sentence)


def test_a_catastrophic_pattern_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    corpus(tmp_path, *(f"{'a' * 200}{n}!.wav" for n in range(40)))
    began = time.monotonic()
    with pytest.raises(UserError, match="none of its 40 audio files"):
        imported(tmp_path, r"pattern: (?P<speaker>(a+)+)")  # exponential where one backtracks
    assert time.monotonic() - began < 60  # and not for ever
    monkeypatch.setattr("ser.corpus.importers.spec.SECONDS", 0.2)
    assert refusal(tmp_path, r"pattern: (?P<speaker>(((a{0,9}){0,9}){0,9}){0,9})b").startswith(
        "the pattern took over 0.2 s for "
    )


def test_the_error_for_a_missing_yaml_says_how_to_give_one(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^no YAML is given; give one with spec=FILE\.$"):
        import_corpus("files", tmp_path)
    with pytest.raises(UserError, match=r"none\.yaml: there is no such file"):
        import_corpus("files", tmp_path, spec="none.yaml")


def test_names_that_are_not_text_are_left_out(tmp_path: Path) -> None:
    corpus(tmp_path, "a.wav", "\udcff.wav")
    assert imported(tmp_path, "pattern: (?P<speaker>.+)").frame["speaker"].to_list() == ["a"]


def test_a_group_called_path_is_refused(tmp_path):
    (tmp_path / "s.yaml").write_text("pattern: (?P<path>.*)\n")
    with pytest.raises(UserError, match=r"s\.yaml:1: pattern: a group is called 'path'"):
        read_spec(tmp_path / "s.yaml")
