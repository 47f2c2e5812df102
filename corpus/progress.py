"""Progress of long work, for whoever shows it; nothing is drawn unless `show_progress` says how."""

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

Item = TypeVar("Item")
_show: Callable[..., Any] | None = None


def show_progress(show: Callable[..., Any] | None) -> None:
    """Show the long work of this process by a callback, such as tqdm itself; None hides it.

    `show(items, label, total, unit="clip")` returns the items, which it counts as they are taken.
    """
    global _show  # noqa: PLW0603  one process, one terminal
    _show = show


def is_shown() -> bool:
    """Return whether progress is shown."""
    return _show is not None


def steps(
    items: Iterable[Item], label: str, total: int | None = None, **how: Any
) -> Iterable[Item]:
    """Return the items of long work, counted where progress is shown; `how` is passed to tqdm."""
    return items if _show is None else _show(items, label, total, **how)
