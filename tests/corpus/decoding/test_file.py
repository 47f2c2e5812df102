import io
import os
import socket
from pathlib import Path

import numpy as np
import pytest

from ser.corpus.audio import blocks, duration, info, load
from ser.corpus.decoding.file import Bytes, Part, Window
from ser.corpus.errors import AudioError
from tests.corpus.decoding.factories import encode, noise

READERS = (load, duration, info, lambda path: list(blocks(path)))


def message(path: str | Path) -> str:
    collected = set()
    for read in READERS:
        with pytest.raises(AudioError) as caught:
            read(path)
        collected.add(str(caught.value))
    (only,) = collected
    return only


def test_only_regular_files_are_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.wav")  # nobody writes into it: opening it would wait for ever
    (tmp_path / "round.wav").symlink_to(tmp_path / "round.wav")
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(tmp_path / "socket.wav"))
    try:
        for name in ("pipe.wav", "socket.wav"):
            assert message(tmp_path / name) == "not a regular file"
    finally:
        listener.close()
    assert message("/dev/zero") == "not a regular file"
    assert message(tmp_path) == "is a folder"
    assert message(tmp_path / "round.wav").startswith("cannot be read (Too many levels")
    assert message(tmp_path / ("long" * 100)) == "cannot be read (File name too long)"
    for name in ("a\0.wav", "\ud800.wav", "", str(tmp_path / "pipe.wav" / "a.wav")):
        assert message(name) == "no such file"


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every file")
def test_a_file_without_permission(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(encode(noise(0.1), 16_000, "WAV"))
    path.chmod(0)
    assert message(path) == "cannot be read (Permission denied)"


def test_names_that_ffmpeg_would_take_for_protocols(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("av")
    monkeypatch.chdir(tmp_path)
    Path("secret.wav").write_bytes(encode(noise(0.5), 16_000, "WAV"))
    Path("concat:secret.wav").write_bytes(b"no audio at all, whatever the name says")
    assert message("concat:secret.wav") == "not audio (Format not recognised)"


@pytest.mark.parametrize("form", ["WAV", "FLAC", "MP3", "OGG"])
def test_a_file_object_is_read_like_a_file(tmp_path: Path, form: str) -> None:
    data, path = encode(noise(1.5), 16_000, form), tmp_path / "a"
    path.write_bytes(data)
    file = io.BytesIO(data)
    np.testing.assert_array_equal(load(file), load(path))
    np.testing.assert_array_equal(load(file, 0.5, 1.0), load(path, 0.5, 1.0))
    assert duration(file) == duration(path)
    assert info(file) == info(path)
    assert not file.closed


@pytest.mark.parametrize("form", ["WAV", "FLAC", "OGG"])
def test_a_file_that_does_not_fit_into_memory_is_read_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    path = tmp_path / "a"
    path.write_bytes(encode(noise(1.5), 16_000, form))
    small = load(path), load(path, 0.5, 1.0), duration(path)
    monkeypatch.setattr("ser.corpus.decoding.file.IN_MEMORY", 0)
    np.testing.assert_array_equal(load(path), small[0])
    np.testing.assert_array_equal(load(path, 0.5, 1.0), small[1])
    assert duration(path) == small[2]


def test_a_disk_that_fails_is_an_audio_error() -> None:
    class Failing(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            if self.tell() > 40_000:
                raise OSError(5, "Input/output error")
            return super().read(min(size, 8192) if size and size > 0 else 8192)

    file = Failing(encode(noise(3), 16_000, "WAV", "FLOAT"))
    window = Window(file, Part(0, 192_044))
    window.seek(50_000)
    assert window.readinto(bytearray(100)) == 0
    assert window.error is not None
    assert window.error.strerror == "Input/output error"


def test_bytes_are_found_across_chunks() -> None:
    file = io.BytesIO(bytes((1 << 18) - 2) + b"fLaC" + bytes(100))
    data = Bytes(file)
    assert data.find(b"fLaC", 0, data.size) == (1 << 18) - 2
    assert data.find(b"OggS", 0, data.size) == -1
    assert data(data.size - 2, 10) == bytes(2)
