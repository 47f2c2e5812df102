"""What a browser waits for is cancelled when its last stream has been closed for a moment."""

import asyncio
from types import SimpleNamespace

import pytest

from ser.serve import sessions as module
from ser.serve.limits import Refused
from ser.serve.sessions import Sessions


async def waiting(sessions, name):
    sessions.join(name)
    task = asyncio.ensure_future(sessions.run(name, asyncio.sleep(30, "done")))
    await asyncio.sleep(0)
    return task


def test_a_client_that_closes_the_stream_is_not_waited_for(monkeypatch):
    monkeypatch.setattr(module, "GRACE", 0.15)

    async def work():
        sessions = Sessions()
        gone, other = await waiting(sessions, "a"), await waiting(sessions, "b")
        with sessions.stream("a"), sessions.stream("b"):
            pass
        with sessions.stream("b"):  # which came back
            with pytest.raises(Refused, match="the browser has disconnected"):
                await asyncio.wait_for(gone, 20)
            assert (sessions.knows("a"), sessions.knows("b"), other.done()) == (False, True, False)
        other.cancel()

    asyncio.run(work())


def test_a_session_that_returns_in_time_continues(monkeypatch):
    now = 0.0
    monkeypatch.setattr(module, "GRACE", 100.0)  # no timer fires: the test's clock tells the time
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: now))

    async def work():
        nonlocal now
        sessions = Sessions()
        with sessions.stream("a"):
            pass
        now = 70.0
        task = await waiting(sessions, "a")
        now = 100.0
        sessions._end("a")
        assert sessions.knows("a")
        now = 170.0
        sessions._end("a")
        with pytest.raises(Refused, match="the browser has disconnected"):
            await task

    asyncio.run(work())


def test_the_result_of_the_work_is_returned():
    assert asyncio.run(Sessions().run("a", asyncio.sleep(0, "done"))) == "done"
