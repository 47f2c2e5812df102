"""The plain baseline among systems: how tables mark it and the systems that score below it.

The entry of the baseline in metrics.json has `baseline: true`. A system below it has learned less
from the frames than a linear model of their statistics.
"""

from collections.abc import Mapping

from ser.score.scores import Ranked, SystemScores

BELOW = "↓"  # behind the name of a system below the baseline


def name_of(systems: Mapping[str, SystemScores]) -> str | None:
    """Name the baseline among the systems of a split, None without one."""
    return next((name for name, scores in systems.items() if scores.baseline), None)


def labels(systems: Mapping[str, SystemScores], metric: Ranked) -> dict[str, str]:
    """Return what a table shows for each system of a split."""
    scores = {name: system.score(metric) for name, system in systems.items()}
    return marked(scores, name_of(systems))


def marked(scores: Mapping[str, float | None], baseline: str | None) -> dict[str, str]:
    """Return the names of systems, with marks for the baseline and for those below it.

    >>> marked({"audio": 0.5, "probe": 0.6, "stack": 0.7}, "probe")
    {'audio': 'audio ↓', 'probe': 'probe (baseline)', 'stack': 'stack'}
    """
    least = None if baseline is None else scores.get(baseline)
    shown = {}
    for name, score in scores.items():
        below = score is not None and least is not None and score < least
        own = f"{name} (baseline)" if name != "baseline" else name
        shown[name] = own if name == baseline else f"{name} {BELOW}" if below else name
    return shown


def note(shown: Mapping[str, str], baseline: str | None) -> str | None:
    """Return the sentence under a table with these labels; None without a baseline."""
    if baseline not in shown:
        return None
    sentence = f"{baseline}: a linear probe of the frames, the plain baseline"
    below = any(label.endswith(BELOW) for label in shown.values())
    return f"{sentence}; {BELOW} scores below it." if below else f"{sentence}."
