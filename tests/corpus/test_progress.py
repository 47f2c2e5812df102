import io

import pytest
from tqdm import tqdm

from ser.corpus.progress import bars_hidden, hide_bars


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize(
    ("hidden", "file", "drawn"),
    [(False, Terminal, True), (True, Terminal, False), (False, io.StringIO, False)],
)
def test_bars_are_drawn_in_a_terminal_unless_hidden(hidden, file, drawn):
    screen = file()
    hide_bars(hidden)
    try:
        list(tqdm([1, 2], file=screen, disable=bars_hidden()))
    finally:
        hide_bars(False)
    assert ("2/2" in screen.getvalue()) == drawn
