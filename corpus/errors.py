"""The one exception a user is meant to read, and how its sentence ends for a wrong name."""

from collections.abc import Iterable
from difflib import get_close_matches


class UserError(Exception):
    """Report a mistake that the user can mend, in one sentence.

    The message names the file, the field and the remedy; the command line prints it without a
    traceback and exits with 2. Anything else that escapes is a bug of ours and keeps its traceback.
    """


def nearest(word: str, known: Iterable[str]) -> str:
    """Return the end of a sentence: what a wrong name may have been meant to be."""
    known = list(known)
    near = get_close_matches(word, known, n=1)
    return f"did you mean '{near[0]}'?" if near else f"known are {', '.join(known) or 'none'}."
