"""What a browser waits for is cancelled when its last stream has been closed for a moment."""

import asyncio

import pytest

from ser.serve import sessions as module
from ser.serve.limits import Refused
from ser.serve.sessions import Sessions


@pytest.fixture(autouse=True)
def short(monkeypatch):
    monkeypatch.setattr(module, "GRACE", 0.15)


async def waiting(sessions, name):
    sessions.join(name)
    task = asyncio.ensure_future(sessions.run(name, asyncio.sleep(30, "done")))
    await asyncio.sleep(0)
    return task


def test_a_client_that_closes_the_stream_is_not_waited_for():
    async def work():
        sessions = Sessions()
        gone, other = await waiting(sessions, "a"), await waiting(sessions, "b")
        with sessions.stream("a"), sessions.stream("b"):
            pass
        with sessions.stream("b"):  # which came back
            with pytest.raises(Refused, match="the browser has disconnected"):
                await asyncio.wait_for(gone, 5)
            assert (sessions.knows("a"), sessions.knows("b"), other.done()) == (False, True, False)
        other.cancel()

    asyncio.run(work())


def test_a_session_that_returns_in_time_continues():
    async def work():
        sessions = Sessions()
        with sessions.stream("a"):
            pass
        await asyncio.sleep(0.1)
        task = await waiting(sessions, "a")
        await asyncio.sleep(0.1)
        assert not task.done()
        task.cancel()

    asyncio.run(work())


def test_the_result_of_the_work_is_returned():
    assert asyncio.run(Sessions().run("a", asyncio.sleep(0, "done"))) == "done"
