"""The exceptions whose messages users read, and the parts that many messages share."""

import os
import re
import warnings
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from functools import cache
from pathlib import Path

LONGEST_NAME = 100  # characters of a name in a list
# line breaks and other control characters, and those that reverse the direction of what follows
CONTROLS = "\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069"
CONTROL = re.compile(f"[{CONTROLS}]+")


class UserError(Exception):
    """A mistake that the user can fix, reported in one sentence.

    The message names the file, the field and the remedy; the command line prints it without a
    traceback and exits with `exit_code`. Any other exception is a bug and keeps its traceback,
    except what the machine refuses (`ser.engines.machine`).

        >>> import ser
        >>> try:
        ...     ser.Manifest.read("absent.csv")
        ... except UserError as error:
        ...     print(str(error)[:41])
        absent.csv: there is no such manifest; ma
    """

    exit_code = 2


TRAIN_AGAIN = "train the head again with `{training} --force`"  # a remedy


class DamagedError(UserError):
    """A file of a run or a cache that is missing, damaged or out of bounds.

    `problem` and `remedy` are the two halves of the sentence, so that code that knows the origin of
    the file (a bundle, say) can suggest another remedy. `{training}` in the remedy becomes the
    command that trains the head whose folder the file is in.
    """

    def __init__(self, path: Path | str, problem: str, remedy: str) -> None:
        self.path, self.problem, self.remedy = Path(path), problem, remedy
        if "{training}" in remedy:  # of no other file is there a head to look for
            self.remedy = remedy.replace("{training}", training(self.path.parent))
        super().__init__(f"{path}: {problem}; {self.remedy}.")


def training(folder: Path) -> str:
    """Return the command that trains the head in `folder`, which may be that of a fine-tuning."""
    tuned = folder.parent.parent / "finetuned" / folder.name
    # Path.is_dir raises for a folder that may not be read
    is_tuned = os.path.isdir(tuned)  # noqa: PTH112
    return f"ser {'finetune' if is_tuned else 'heads train'} {folder.name}"


def similar(word: str, names: Sequence[str]) -> str | None:
    """Return the name that is most like a word, None where none is."""
    cutoff = 0.6 if len(word) < 5 else 0.7  # two of three letters are near, four of six are not
    return next(iter(get_close_matches(word, names, n=1, cutoff=cutoff)), None)


def nearest(word: str, names: Iterable[str]) -> str:
    """Return the end of a sentence about a wrong name: the nearest valid name, or all of them."""
    names = list(names)
    if near := similar(word, names):
        return f"did you mean '{near}'?"
    return f"choose from {', '.join(names)}." if names else "there are none."


class BusyError(UserError):
    """Another process is already writing the same output; the message names it."""

    exit_code = 1


class StoppedError(UserError):
    """The machine or the network refused something (a full disk, …), or a head has failed."""

    exit_code = 1


class Note(Warning):
    """A message that informs and needs no action; the command line prints it."""


@cache
def note_once(text: str) -> None:
    """Warn of something once in a process."""
    warnings.warn(text, Note, stacklevel=3)


def one_line(text: str) -> str:
    """Return a text with a space for its line breaks and control characters, for a terminal."""
    return CONTROL.sub(" ", text)


def plain_lines(text: str) -> str:
    """Return a text whose lines have no control characters, for a terminal."""
    return "\n".join(map(one_line, text.split("\n")))


def first_line(error: Exception) -> str:
    """Return the first sentence of a library's message, on one line of at most 300 characters."""
    line = next(iter(str(error).splitlines()), "") or type(error).__name__
    return line.split(". ")[0][:300]


def shown(text: str, longest: int = LONGEST_NAME) -> str:
    """Return a text for a message: on one line, with escapes for what is hidden, not too long."""
    escaped = CONTROL.sub(lambda match: repr(match[0])[1:-1], text)
    return escaped if len(escaped) <= longest else f"{escaped[:longest]}…"


def listed(names: Iterable[str], most: int = 20) -> str:
    """Return names for a message: not too many, each on one line and none too long."""
    names = list(names)
    first = ", ".join(shown(name) for name in names[:most])
    return first + (f" and {len(names) - most} more" if len(names) > most else "")


def plural(count: int, noun: str) -> str:
    """Return a count with its noun: 1 row, 2 rows."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


class AudioError(Exception):
    """Why one clip cannot be used: `problem` is the kind, `detail` its particulars."""

    def __init__(self, problem: str, detail: str = "") -> None:
        super().__init__(f"{problem} ({detail})" if detail else problem)
        self.problem = problem
        self.detail = detail
