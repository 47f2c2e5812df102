"""Fingerprints."""

from ser.cache.files import fingerprint


def test_order_does_not_matter_and_every_value_does():
    assert fingerprint({"a": 1, "b": [2]}) == fingerprint({"b": [2], "a": 1})
    others = [{"a": 1, "b": [3]}, {"a": "1", "b": [2]}, {"a": 1}, {"a": 1.5, "b": [2]}]
    assert len({fingerprint(x) for x in [{"a": 1, "b": [2]}, *others]}) == 5


def test_it_is_stable_across_machines():
    assert fingerprint({"kind": "whisper", "é": None}) == "1f3965b4681c1c4b"
