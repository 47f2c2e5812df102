"""`ser serve` under load, by a client that sends HTTP to a process of its own.

    python -m bench.serve RUN CLIP [--requests 200] [--at-once 8]

A clip is sent many times, several at once: seconds from the first byte sent to the last byte of the
answer, requests per second, resident memory of the server before and after. What a server must
refuse is tested in `tests/ser/serve`.
"""

import asyncio
import contextlib
import os
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import soundfile

from bench.processes import PROGRAM, memory_mb
from bench.report import Row, arguments, show, temporary_folder


@contextlib.contextmanager
def served(run: Path, folder: Path) -> Iterator[tuple[int, str]]:
    """Start `ser serve` on a free port, wait for its models; yield its process and address."""
    command = [PROGRAM, "serve", "--run", str(run), "--port", "0"]
    environment = os.environ | {"TMPDIR": str(folder)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout
        try:
            match = re.search(r"http://\S*:\d+", process.stdout.readline())
            assert match, "the server did not start"
            while httpx.get(f"{match[0]}/health").status_code != 200:
                time.sleep(0.2)
            yield process.pid, match[0]
            assert process.poll() is None, "the server went down"
        finally:
            process.terminate()
            process.wait(30)


async def fire(url: str, clip: bytes, requests: int, at_once: int) -> tuple[list[float], int]:
    """Return the seconds of each answer, and how many were errors."""
    seconds, errors = [], 0
    turns = iter(range(requests))

    async def client() -> None:
        nonlocal errors
        async with httpx.AsyncClient(base_url=url, timeout=300) as session:
            for _ in turns:
                begun = time.perf_counter()
                answer = await session.post("/predict", files={"file": ("clip.wav", clip)})
                seconds.append(time.perf_counter() - begun)
                errors += answer.status_code != 200

    await asyncio.gather(*(client() for _ in range(at_once)))
    return seconds, errors


def main() -> None:
    parser = arguments(__doc__ or "")
    parser.add_argument("run", type=Path, help="a trained run")
    parser.add_argument("clip", type=Path, help="a clip that it can decode")
    parser.add_argument("--requests", type=int, default=200)
    parser.add_argument("--at-once", type=int, default=8)
    options = parser.parse_args()
    requests = 40 if options.quick else options.requests
    clip = options.clip.read_bytes()
    with temporary_folder(options) as folder, served(options.run, folder) as (pid, url):
        asyncio.run(fire(url, clip, 5, 1))
        before = memory_mb("VmRSS", pid)
        begun = time.perf_counter()
        seconds, errors = asyncio.run(fire(url, clip, requests, options.at_once))
        wall = time.perf_counter() - begun
        rows = [
            Row("errors", errors, f"of {requests}"),
            Row("rate", requests / wall, "requests/s"),
            Row("p50", float(np.percentile(seconds, 50)), "s"),
            Row("p95", float(np.percentile(seconds, 95)), "s"),
            Row("memory after 5 requests", before, "MB"),
            Row(f"memory after {requests} more", memory_mb("VmRSS", pid), "MB"),
            Row("its peak", memory_mb("VmHWM", pid), "MB"),
            Row("files left behind", sum(path.is_file() for path in folder.rglob("*")), ""),
        ]
    seconds_of_clip = soundfile.info(options.clip).duration
    note = f"{options.clip.name}, {seconds_of_clip:.1f} s, {options.at_once} at once"
    show(options, {"serve": rows}, note)


if __name__ == "__main__":
    main()
