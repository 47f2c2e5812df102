"""Tables and numbers of a model card, in Markdown."""

from collections.abc import Callable, Sequence


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    escaped = ([cell.replace("|", r"\|") for cell in line] for line in lines)
    return "\n".join(f"| {' | '.join(line)} |" for line in escaped)


def percent(value: float | None, interval: Sequence[float] | None = None) -> str:
    """Write a share in %, with its interval where there is one.

    >>> percent(0.5, [0.4, 0.6]), percent(None)
    ('50.0 (40.0 to 60.0)', 'unknown')
    """
    if value is None:
        return "unknown"
    return f"{100 * value:.1f}" + _interval(interval, lambda edge: f"{100 * edge:.1f}")


def number(value: float, interval: Sequence[float] | None = None) -> str:
    """Write a number with three decimals, with its interval where there is one."""
    return f"{value:.3f}" + _interval(interval, lambda edge: f"{edge:.3f}")


def _interval(interval: Sequence[float] | None, show: Callable[[float], str]) -> str:
    return "" if interval is None else f" ({show(interval[0])} to {show(interval[1])})"
