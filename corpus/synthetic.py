"""The notes on a model trained, or scores measured, on synthetic speech."""

SCORES_NOTE = "The speech is synthetic, so the scores say nothing about real emotion."


def model_note(share: float | None) -> str | None:
    """Return the note of a model by the share of its training clips that are synthetic speech.

    None where there are none, or nothing is known (a model of an earlier version).
    """
    if not share:
        return None
    if share == 1:
        return (
            "This model was trained on synthetic speech; its predictions say nothing about real "
            "emotion."
        )
    return (
        f"This model was trained partly on synthetic speech ({share:.1%} of its clips); its "
        "predictions may say little about real emotion."
    )


def scores_note(share: float) -> str | None:
    """Return the note of scores by the share of synthetic speech in their corpus."""
    if not share:
        return None
    if share == 1:
        return SCORES_NOTE
    return (
        f"Part of the speech is synthetic ({share:.1%} of the clips), so the scores say less about "
        "real emotion than they seem to."
    )
