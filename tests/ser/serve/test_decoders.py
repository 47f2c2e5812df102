"""The processes that decode: used again, killed when nobody waits, replaced."""

import asyncio
import os
import signal

import numpy as np
import pytest
import soundfile

from ser.corpus.errors import AudioError
from ser.serve.decoders import Decoders
from ser.serve.limits import Refused


def run(work):
    async def closing():
        decoders = Decoders()
        try:
            return await work(decoders)
        finally:
            await decoders.close()

    return asyncio.run(closing())


def clips(folder, count):
    for i in range(count):
        (folder / str(i)).mkdir()
        signal = np.random.default_rng(i).normal(0, 0.1, 8000 + i)
        soundfile.write(folder / str(i) / "clip.wav", signal, 16_000)
        yield folder / str(i) / "clip.wav"


def test_two_processes_decode_many_clips_and_each_gets_its_own(tmp_path):
    async def work(decoders):
        paths = list(clips(tmp_path, 6))
        done = await asyncio.gather(*(decoders.decode(p, p.parent, 60, 60) for p in paths))
        assert [d.wav.parent for d in done] == [p.parent for p in paths]
        assert [d.seconds for d in done] == [(8000 + i) / 16_000 for i in range(6)]
        assert {len(d.envelope) for d in done} == {25, 26}
        assert len(decoders._idle) == 2

    run(work)


def test_refusals_leave_the_process_at_work(tmp_path):
    async def work(decoders):
        (path,) = clips(tmp_path, 1)
        (tmp_path / "text").write_text("no audio")
        with pytest.raises(AudioError, match=r"^not audio \(Format not recognised\)$"):
            await decoders.decode(tmp_path / "text", tmp_path, 60, 60)
        with pytest.raises(Refused, match=r"longer than 0\.1 s") as refused:
            await decoders.decode(path, tmp_path, 0.1, 60)
        assert refused.value.status_code == 413
        assert (await decoders.decode(path, tmp_path, 60, 60)).seconds == 0.5
        assert len(decoders._idle) == 1

    run(work)


def stopped(process):
    """Make a process stand still, as one that decodes something endless does for a client."""
    os.kill(process.pid, signal.SIGSTOP)
    return process


async def is_gone(pid):
    for _ in range(6000):  # a minute
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        await asyncio.sleep(0.01)
    return False


def test_a_process_that_nobody_waits_for_is_killed_and_replaced(tmp_path):
    async def work(decoders):
        (path,) = clips(tmp_path, 1)
        await decoders.decode(path, tmp_path, 60, 60)
        process = stopped(decoders._idle[0])
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(decoders.decode(path, tmp_path, 60, 60), 0.2)
        assert await is_gone(process.pid)
        assert decoders._idle == []
        assert (await decoders.decode(path, tmp_path, 60, 60)).seconds == 0.5

    run(work)


def test_a_process_that_dies_costs_one_clip(tmp_path):
    async def work(decoders):
        (path,) = clips(tmp_path, 1)
        await decoders.decode(path, tmp_path, 60, 60)
        process = stopped(decoders._idle[0])
        job = asyncio.create_task(decoders.decode(path, tmp_path, 60, 60))
        await asyncio.sleep(0)
        os.kill(process.pid, signal.SIGSEGV)
        os.kill(process.pid, signal.SIGCONT)
        with pytest.raises(AudioError, match="it cannot be decoded"):
            await job
        assert (await decoders.decode(path, tmp_path, 60, 60)).seconds == 0.5

    run(work)


def test_the_process_ends_itself_when_the_server_cannot(tmp_path):
    async def work(decoders):
        path = tmp_path / "long.wav"
        soundfile.write(path, np.zeros((600 * 48_000, 2), np.int16), 48_000)
        with pytest.raises(AudioError, match="it cannot be decoded"):
            await decoders.decode(path, tmp_path, 600, 0.05)

    run(work)


def test_close_ends_all_of_them(tmp_path):
    async def work(decoders):
        (path,) = clips(tmp_path, 1)
        await decoders.decode(path, tmp_path, 60, 60)
        process = decoders._idle[0]
        await decoders.close()
        assert await is_gone(process.pid)

    run(work)
