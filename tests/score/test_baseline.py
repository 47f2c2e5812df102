from ser.score.baseline import labels, marked, name_of, note
from tests.score.factories import system

SYSTEMS = {
    "audio": system(0.5, 0.4),
    "probe": system(0.6, 0.3, baseline=True),
    "stack": system(0.7),
}


def test_systems_below_the_baseline_are_marked():
    assert name_of(SYSTEMS) == "probe"
    shown = labels(SYSTEMS, "macro_f1")
    assert shown == {"audio": "audio ↓", "probe": "probe (baseline)", "stack": "stack"}
    assert note(shown, "probe") == (
        "probe: a linear probe of the frames, the plain baseline; ↓ scores below it."
    )
    rated = labels(SYSTEMS, "ccc")
    assert rated == {"audio": "audio", "probe": "probe (baseline)", "stack": "stack"}
    assert note(rated, "probe") == "probe: a linear probe of the frames, the plain baseline."


def test_without_a_baseline_nothing_is_marked():
    without = {"audio": SYSTEMS["audio"], "stack": SYSTEMS["stack"]}
    assert labels(without, "macro_f1") == {"audio": "audio", "stack": "stack"}
    assert note(labels(without, "macro_f1"), None) is None


def test_its_own_name_needs_no_mark():
    shown = marked({"baseline": 0.6, "audio": 0.6, "other": None}, "baseline")
    assert shown == {"baseline": "baseline", "audio": "audio", "other": "other"}
