import os

import pytest

from ser.corpus import threads


@pytest.fixture(autouse=True)
def _unlimited(monkeypatch):
    monkeypatch.setattr(threads, "_limited", False)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)


def test_few_cores_give_each_call_one_thread_and_the_others_are_idle(monkeypatch):
    monkeypatch.setattr(threads, "cores", lambda: 4)
    assert threads.idle_cores() == 0
    threads.limit_threads()
    assert (os.environ["OMP_NUM_THREADS"], threads.idle_cores()) == ("1", 3)


def test_a_number_of_threads_that_was_set_is_kept(monkeypatch):
    monkeypatch.setattr(threads, "cores", lambda: 2)
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    threads.limit_threads()
    assert (os.environ["OMP_NUM_THREADS"], threads.idle_cores()) == ("2", 0)


def test_many_cores_are_left_to_the_libraries(monkeypatch):
    monkeypatch.setattr(threads, "cores", lambda: 5)
    threads.limit_threads()
    assert "OMP_NUM_THREADS" not in os.environ
    assert threads.idle_cores() == 0
