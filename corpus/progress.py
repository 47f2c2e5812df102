"""Whether progress bars are drawn: in a terminal only, and not with `--quiet`."""

_hidden = False


def hide_bars(hidden: bool) -> None:
    """Hide the progress bars of this process, or show them in a terminal again."""
    global _hidden  # noqa: PLW0603  one process, one terminal
    _hidden = hidden


def bars_hidden() -> bool | None:
    """Return tqdm's `disable`: True for hidden, None for "where there is no terminal"."""
    return True if _hidden else None
