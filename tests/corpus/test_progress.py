from ser.corpus.progress import is_shown, show_progress, steps


def test_long_work_is_shown_by_the_callback_and_otherwise_passed_on():
    shown = []

    def show(items, label, total, unit):
        for item in items:
            shown.append((label, total, unit, item))
            yield item

    items = iter("ab")
    assert steps(items, "letters") is items
    show_progress(show)
    try:
        assert is_shown()
        assert list(steps(items, "letters", 2, unit="letter")) == ["a", "b"]
    finally:
        show_progress(None)
    assert shown == [("letters", 2, "letter", "a"), ("letters", 2, "letter", "b")]
    assert not is_shown()
