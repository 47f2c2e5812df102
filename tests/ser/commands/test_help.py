"""The help: fast, in the order of work, full sentences, examples that can be typed."""

import re
import resource
import subprocess
import sys
from typing import Annotated

import pytest
from typer import Option
from typer.main import get_command
from typer.testing import CliRunner

from ser.commands.help import SECTIONS, describe
from ser.commands.main import cli
from tests.ser.factories import BIN, parsed_command


def commands(command=None, words=("ser",)):
    """Yield (words, command) of every command and group, from the top."""
    command = command or get_command(cli)
    yield words, command
    for name, inner in getattr(command, "commands", {}).items():
        yield from commands(inner, (*words, name))


ALL = {" ".join(words[1:]): command for words, command in commands()}
LEAVES = [name for name, command in ALL.items() if not hasattr(command, "commands")]


def help_text(name):
    return CliRunner().invoke(cli, [*name.split(), "--help"]).stdout


@pytest.mark.parametrize("words", [["--help"], ["heads", "--help"], ["extract", "--help"]])
def test_help_is_fast_and_imports_nothing_heavy(words):
    code = (
        "import sys\nfrom ser.commands.main import cli\n"
        f"try: cli({words})\nexcept SystemExit: pass\n"
        "heavy = {'torch', 'sklearn', 'polars', 'numpy', 'pydantic', 'yaml', 'rich'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.PIPE)
    assert any(cpu_seconds(words) < 0.3 for _ in range(10))  # once at least, on a busy machine


def cpu_seconds(words):
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([BIN / "ser", *words], check=True, stdout=subprocess.PIPE)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def test_an_argument_is_its_name_in_the_usage():
    assert help_text("runs compare").startswith("Usage: ser runs compare [OPTIONS] A B\n")


def test_commands_are_listed_in_the_order_of_work():
    lines = help_text("").splitlines()
    headings = [line[:-1] for line in lines if re.fullmatch(r"[A-Z]\w+:", line)]
    assert headings == ["Options", *SECTIONS]
    text = help_text("")
    places = [
        text.index(f"\n  {name} ") for name in ("init", "corpus", "extract", "heads", "stack")
    ]
    assert places == sorted(places)


@pytest.mark.parametrize("name", ALL)
def test_help_fits_80_columns_and_is_plain_text(name):
    text = help_text(name)
    assert max(map(len, text.splitlines())) <= 80
    assert not re.search(r"[\u2500-\u257f\x1b]", text)
    first = ALL[name].help.split("\n\n")[0]
    assert first.endswith(".") and first[0].isupper() and len(first) < 80


@pytest.mark.parametrize("name", ALL)
def test_every_option_is_a_sentence_with_its_default(name):
    context = ALL[name].make_context(name, [], resilient_parsing=True)
    for param in ALL[name].get_params(context):
        _, text = param.get_help_record(context)
        sentence = text.split("  [")[0]
        assert sentence[0].isupper() and sentence.endswith("."), (param.name, text)
        if not getattr(param, "is_flag", False):
            assert re.search(r"\[default: |required\]|default", text) or param.name in OPTIONAL, (
                text
            )


OPTIONAL = {"features", "run"}  # of `ser extract` and `ser pack`, which take another option too


def test_the_help_of_parameters_is_in_the_docstring():
    def command(source, *, everything=False, limit: Annotated[int, Option(min=1)] = 3):
        pass

    command.__doc__ = """Copy.

    Args:
        source: File to
            copy.
        everything (--all): Copy all.
        limit (--most, -n N): Copy so many.
    """
    command.__annotations__ |= {"source": str, "everything": bool}
    assert describe(command) == "Copy."
    infos = [hint.__metadata__[0] for hint in command.__annotations__.values()]
    assert {(i.help, i.metavar, *i.param_decls) for i in infos} == {
        ("File to copy.", "SOURCE"),
        ("Copy all.", None, "--all"),
        ("Copy so many.", "N", "--most", "-n"),
    }
    command.__doc__ = "Copy.\n\nArgs:\n    sources: Files."
    with pytest.raises(KeyError, match="sources"):
        describe(command)


@pytest.mark.parametrize("name", LEAVES)
def test_every_command_has_examples_that_parse(name):
    lines = ALL[name].epilog.splitlines()
    assert lines
    for line in lines:
        words = re.sub(r"^\w+=\S+ | > .*", "", line).split()
        assert words[0] == "ser" and parsed_command(words[1:]) == name, line


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("ser he", {"heads"}),
        ("ser heads tr", {"train", "train-all"}),
        ("ser heads train --device ", {"auto", "cpu", "cuda", "cuda:0", "mps"}),
        ("ser extract --device c", {"cpu", "cuda"}),
    ],
)
def test_the_shell_completes_commands_and_choices(monkeypatch, capsys, typed, expected):
    monkeypatch.setenv("_SER_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", typed)
    monkeypatch.setenv("COMP_CWORD", str(len(typed.split(" ")) - 1))
    with pytest.raises(SystemExit) as end:
        cli(prog_name="ser")
    assert end.value.code == 0
    assert set(capsys.readouterr().out.split()) >= expected
