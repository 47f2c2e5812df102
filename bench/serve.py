"""`ser serve` under load and under abuse, by a client that sends HTTP to a process of its own.

load     a clip sent many times, several at once; seconds from the first byte sent to the last
         byte of the answer, requests per second, resident memory of the server before and after
abuse    what a server on a network receives, one after the other; the answer, the seconds until it,
         and the bytes that the server took. A request of the normal kind is sent after each, and
         during the slow connections ten of them.

    python -m bench.serve RUN CLIP [--requests 200] [--at-once 8] [--no-abuse]
"""

import asyncio
import contextlib
import os
import re
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import numpy as np
import soundfile

from bench.report import Row, arguments, show

MB = 1_000_000
HEAD = "POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: audio/wav\r\n"


@dataclass(frozen=True)
class Server:
    """A process that serves, and its address."""

    pid: int
    host: str
    port: int

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"

    def memory(self, which: str) -> float:
        """Return megabytes: VmRSS is the resident memory now, VmHWM the highest so far."""
        status = Path(f"/proc/{self.pid}/status").read_text(encoding="utf-8")
        match = re.search(rf"{which}:\s+(\d+) kB", status)
        assert match
        return int(match[1]) / 1000


@contextlib.contextmanager
def served(run: Path, folder: Path) -> Iterator[Server]:
    """Start `ser serve` with its page on a free port; wait until the models are loaded."""
    command = [str(Path(sys.executable).parent / "ser"), "serve", "--run", str(run), "--port", "0"]
    environment = os.environ | {"TMPDIR": str(folder)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout
        try:
            match = re.search(r"http://(.*):(\d+)", process.stdout.readline())
            assert match, "the server did not start"
            server = Server(process.pid, match[1], int(match[2]))
            while httpx.get(f"{server.url}/health").status_code != 200:
                time.sleep(0.2)
            yield server
            assert process.poll() is None, "the server went down"
        finally:
            process.terminate()
            process.wait(30)


async def fire(server: Server, clip: bytes, requests: int, at_once: int) -> tuple[list[float], int]:
    """Return the seconds of each answer, and how many were errors."""
    seconds, errors = [], 0
    turns = iter(range(requests))

    async def client() -> None:
        nonlocal errors
        async with httpx.AsyncClient(base_url=server.url, timeout=300) as session:
            for _ in turns:
                begun = time.perf_counter()
                answer = await session.post("/predict", files={"file": ("clip.wav", clip)})
                seconds.append(time.perf_counter() - begun)
                errors += answer.status_code != 200

    await asyncio.gather(*(client() for _ in range(at_once)))
    return seconds, errors


async def pour(server: Server, parts: AsyncIterator[bytes], head: str) -> tuple[str, int]:
    """Send a body until it ends or an answer comes; return the answer and the bytes sent."""
    reader, writer = await asyncio.open_connection(server.host, server.port)
    writer.write((HEAD + head + "\r\n").encode())
    answer = asyncio.create_task(answered(reader))
    sent = 0
    with contextlib.suppress(ConnectionError):
        async for part in parts:
            writer.write(part)
            await writer.drain()
            sent += len(part)
            if answer.done():
                break
            await asyncio.sleep(0)
    with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
        return await asyncio.wait_for(answer, 120), sent
    return "hung up", sent


async def answered(reader: asyncio.StreamReader) -> str:
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    length = re.search(r"content-length: (\d+)", head)
    body = await reader.readexactly(int(length[1])) if length else b""
    return spoken(int(head.split()[1]), body.decode())


def spoken(status: int, text: str) -> str:
    match = re.search(r'"error":\s*"(.*)"}', text)
    return f"{status} {match[1] if match else ''}".strip()


async def zeros(total: int, chunked: bool) -> AsyncIterator[bytes]:
    part = bytes(65536)
    for _ in range(total // len(part)):
        yield b"10000\r\n" + part + b"\r\n" if chunked else part


async def drops() -> AsyncIterator[bytes]:
    while True:
        yield b"0"
        await asyncio.sleep(0.5)


def silence(path: Path, hours: float, without_length: bool = False) -> Path:
    """Write a flac of `hours` of silence; `without_length` in its header."""
    with soundfile.SoundFile(path, "w", 8000, 1) as file:
        for _ in range(round(hours * 60)):
            file.write(np.zeros(8000 * 60, np.int16))
    if without_length:
        data = bytearray(path.read_bytes())
        data[18:26] = struct.pack(">Q", struct.unpack(">Q", data[18:26])[0] >> 36 << 36)
        path.write_bytes(data)
    return path


def harmful(folder: Path) -> dict[str, Path]:
    """Write files that a server must refuse."""
    noise = np.random.default_rng(0).normal(0, 0.1, 16_000 * 60)
    soundfile.write(folder / "whole.mp3", noise, 16_000)
    whole = (folder / "whole.mp3").read_bytes()
    (folder / "cut.mp3").write_bytes(whole[: len(whole) // 3])
    (folder / "text.txt").write_text("no audio at all\n" * 100)
    (folder / "list.txt").write_text("ffconcat version 1.0\nfile whole.mp3\n")
    long = silence(folder / "ten-hours.flac", 10)
    bomb = silence(folder / "bomb.flac", 10, without_length=True)
    return {
        f"flac of ten hours, {long.stat().st_size / MB:.1f} MB": long,
        f"the same, without its length, {bomb.stat().st_size / MB:.1f} MB": bomb,
        "truncated mp3": folder / "cut.mp3",
        "text file": folder / "text.txt",
        "list of files (ffconcat)": folder / "list.txt",
    }


async def abuse(server: Server, clip: bytes, folder: Path) -> list[tuple[str, str, float, str]]:
    """Return what was sent, what was answered, the seconds and a note."""
    rows = []

    async def normal() -> float:
        (seconds,), errors = await fire(server, clip, 1, 1)
        assert not errors
        return seconds

    for name, chunked in (("2 GB, with its length", False), ("2 GB, without its length", True)):
        head = "Transfer-Encoding: chunked\r\n" if chunked else "Content-Length: 2000000000\r\n"
        begun = time.perf_counter()
        answer, sent = await pour(server, zeros(2000 * MB, chunked), head)
        rows.append((name, answer, time.perf_counter() - begun, f"{sent / MB:.1f} MB sent"))
        await normal()
    async with httpx.AsyncClient(base_url=server.url, timeout=300) as client:
        for name, path in harmful(folder).items():
            begun = time.perf_counter()
            response = await client.post("/predict", files={"file": (path.name, path.read_bytes())})
            answer, seconds = (
                spoken(response.status_code, response.text),
                time.perf_counter() - begun,
            )
            rows.append((name, answer, seconds, ""))
            await normal()
    begun = time.perf_counter()
    length = "Content-Length: 500000\r\n"
    slow = [asyncio.create_task(pour(server, drops(), length)) for _ in range(100)]
    await asyncio.sleep(1)
    times = [await normal() for _ in range(10)]
    answers = Counter(text for text, _ in await asyncio.gather(*slow))
    answer = "; ".join(f"{count} x {text}" for text, count in answers.items())
    median = f"ten normal requests meanwhile: median {statistics.median(times):.2f} s"
    rows.append(("100 slow connections", answer, time.perf_counter() - begun, median))
    return rows


def table(rows: list[tuple[str, str, float, str]]) -> None:
    from rich.console import Console
    from rich.table import Table

    shown = Table("sent", "answer", "seconds", "", title="Abuse", title_justify="left")
    for name, answer, seconds, note in rows:
        shown.add_row(name, answer, f"{seconds:.2f}", note)
    Console(width=None if sys.stdout.isatty() else 140).print(shown)


def main() -> None:
    parser = arguments(__doc__ or "")
    parser.add_argument("run", type=Path, help="a trained run")
    parser.add_argument("clip", type=Path, help="a clip that it can decode")
    parser.add_argument("--requests", type=int, default=200)
    parser.add_argument("--at-once", type=int, default=8)
    parser.add_argument("--no-abuse", action="store_true")
    options = parser.parse_args()
    requests = 40 if options.quick else options.requests
    clip = options.clip.read_bytes()
    with (
        tempfile.TemporaryDirectory(dir=options.folder) as place,
        tempfile.TemporaryDirectory(dir=options.folder) as temporary,
        served(options.run, Path(temporary)) as server,
    ):
        asyncio.run(fire(server, clip, 5, 1))
        before = server.memory("VmRSS")
        begun = time.perf_counter()
        seconds, errors = asyncio.run(fire(server, clip, requests, options.at_once))
        wall = time.perf_counter() - begun
        rows = [
            Row("errors", errors, f"of {requests}"),
            Row("rate", requests / wall, "requests/s"),
            Row("p50", float(np.percentile(seconds, 50)), "s"),
            Row("p95", float(np.percentile(seconds, 95)), "s"),
            Row("memory after 5 requests", before, "MB"),
            Row(f"memory after {requests} more", server.memory("VmRSS"), "MB"),
        ]
        if not options.no_abuse:
            answers = asyncio.run(abuse(server, clip, Path(place)))
            table(answers)
            rows.append(Row("memory after the abuse", server.memory("VmRSS"), "MB"))
        rows.append(Row("its peak", server.memory("VmHWM"), "MB"))
        left = [path for path in Path(temporary).rglob("*") if path.is_file()]
        rows.append(Row("files left behind", len(left), ""))
    audio = soundfile.info(options.clip)
    note = (
        f"{options.clip.name}, {audio.frames / audio.samplerate:.1f} s, {options.at_once} at once"
    )
    show({"serve": rows}, [], [note], options.json)


if __name__ == "__main__":
    main()
