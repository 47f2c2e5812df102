"""The registry: what it finds, when it imports, and an installed package's part in it."""

import subprocess
import sys
import warnings
from abc import ABC, abstractmethod
from importlib import import_module

import pytest

from ser.corpus import registry as module
from ser.corpus.errors import Note, UserError
from ser.corpus.registry import BuiltIn, Entry, Registry


def make(**built_in):
    return Registry("colour", "paint", built_in)


def install(folder, monkeypatch, name, source, entry):
    """Install a package of one module with entry points, as pip would leave it."""
    (folder / f"{name}.py").write_text(source)
    metadata = folder / f"{name}-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(f"[ser.plugins]\n{entry} = {name}\n")
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setattr(module, "_failures", None)


def test_an_unknown_name_gets_the_nearest_or_all():
    colours = make()
    colours.add("red", len, None)
    colours.add("blue", max, None)
    with pytest.raises(UserError) as error:
        colours.get("bleu")
    assert str(error.value) == "paint: the colour 'bleu' is unknown; did you mean 'blue'?"
    with pytest.raises(UserError) as error:
        colours.require("zzz")
    assert str(error.value) == "paint: the colour 'zzz' is unknown; choose from blue, red."


def test_a_built_in_part_is_imported_when_it_is_used(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "late_colours.py").write_text(
        "from ser.corpus.registry import BuiltIn, Registry\n"
        "fire = BuiltIn('late_red', 'The colour of fire.', 1)\n"
        "COLOURS = Registry('colour', 'paint', {'red': fire})\n"
    )
    (tmp_path / "late_red.py").write_text(
        "from late_colours import COLOURS\ndef red(): ...\nCOLOURS.add('red', red, 1)\n"
    )
    colours = import_module("late_colours").COLOURS
    assert (colours.about("red"), colours.require("red"), colours.names()) == (1, "red", ["red"])
    assert colours.list() == [Entry("red", "The colour of fire.", "late_red", True)]
    assert "late_red" not in sys.modules
    assert colours.get("red").__module__ == "late_red"


def test_names_that_cannot_be_registered():
    colours = make(red=BuiltIn("elsewhere", "", None))
    for name in ("", "a b", "../x", "x" * 101):
        with pytest.raises(UserError, match="use letters, digits"):
            colours.add(name, len, None)
    with pytest.raises(UserError) as error:
        colours.add("red", len, None)
    assert str(error.value) == (
        "colour 'red' (builtins.len): this name is built in; choose another one."
    )


def test_an_abstract_class_cannot_be_registered():
    class Base(ABC):
        @abstractmethod
        def paint(self): ...

    with pytest.raises(UserError, match=r"Base\): the class does not define paint; add it\.$"):
        make().add("base", Base, None)


def test_another_part_of_the_same_name_is_a_warning_and_the_same_one_is_not():
    colours = make()
    with warnings.catch_warnings():
        warnings.simplefilter("error", Note)
        for _ in range(2):  # a notebook's cell that runs again

            def red():
                """Red."""

            colours.add("red", red, None)
    with pytest.warns(Note, match=r"'red' \(builtins\.len\) replaces that of .*red; rename"):
        colours.add("red", len, None)
    assert colours.get("red") is len


def test_a_package_is_imported_for_a_name_that_is_not_built_in(tmp_path, monkeypatch):
    source = (
        "from ser.heads.training.samplers import sampler\n"
        "@sampler('first_of_package')\n"
        "def first(labels, neutral, rng):\n    'The first utterance.'\n    return labels[:1] * 0\n"
    )
    install(tmp_path, monkeypatch, "ser_first", source, "first")
    from ser.heads.config import parse_head
    from ser.heads.registry import SAMPLERS

    parse_head({"features": ["a"], "sampler": "undersample"})
    assert "ser_first" not in sys.modules
    try:
        config = parse_head({"features": ["a"], "sampler": "first_of_package"})
        assert config.sampler.name == "first_of_package"
        entry = next(e for e in SAMPLERS.list() if e.name == "first_of_package")
        assert entry == Entry("first_of_package", "The first utterance.", "ser_first", False)
    finally:
        SAMPLERS.remove("first_of_package")


def test_a_package_that_fails_is_named_and_breaks_nothing_else(tmp_path, monkeypatch):
    install(tmp_path, monkeypatch, "ser_broken", "import no_such_package\n", "broken")
    colours = make()
    colours.add("red", len, None)
    assert colours.get("red") is len  # nothing was looked for
    sentence = (
        "the plugin 'broken' of the package 'ser_broken' cannot be imported (ModuleNotFoundError: "
        "No module named 'no_such_package'); update the package or uninstall it."
    )
    with pytest.warns(Note) as caught, pytest.raises(UserError) as error:
        colours.get("green")
    assert [str(w.message) for w in caught] == [sentence]
    assert str(error.value) == (
        "paint: the colour 'green' is unknown; choose from red. Perhaps it is in a plugin that "
        "cannot be imported: 'broken'."
    )
    assert [entry.name for entry in colours.list()] == ["red"]


def test_help_looks_for_no_package():
    code = (
        "import sys; sys.argv = ['ser', '--help']\n"
        "from ser.commands.main import main\n"
        "try: main()\nexcept SystemExit: pass\n"
        "from ser.corpus import registry\n"
        "print(registry._failures, 'torch' in sys.modules, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == "None False\n"


def test_where_only_built_in_parts_are_known_others_are_not_named_and_no_package_is_imported(
    tmp_path, monkeypatch
):
    install(tmp_path, monkeypatch, "paints_unread", "raise SystemExit('imported')\n", "paints")
    colours = make(red=BuiltIn("colours:red", "Red.", 1))
    colours.add("blue", "#00f", 2)
    with module.built_in_only():
        assert colours.names() == ["red"]
        assert [entry.name for entry in colours.list()] == ["red"]
    assert "paints_unread" not in sys.modules
    assert colours.names() == ["blue", "red"]
