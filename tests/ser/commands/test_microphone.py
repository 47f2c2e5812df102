"""`ser predict --mic`; a file plays the part of the device, which no test machine has."""

import json
import sys
from types import SimpleNamespace

import pytest
import soundfile
from typer.testing import CliRunner

from ser.commands.main import cli
from ser.corpus.errors import UserError


def predict(*words):
    call = ["predict", *map(str, words)]
    return CliRunner().invoke(cli, call, catch_exceptions=False, standalone_mode=False)


class Device:
    """The part of `sounddevice` that is used: an input that records a file and then stops."""

    PortAudioError = type("PortAudioError", (Exception,), {})

    def __init__(self, file, error=None):
        self.wave, self.rate = soundfile.read(file, dtype="float32", always_2d=True)
        self.error = error

    def query_devices(self, kind):
        if self.error:
            raise self.PortAudioError(self.error)
        return {"default_samplerate": float(self.rate)}

    def InputStream(self, rate, channels, dtype, callback, finished_callback):  # noqa: N802
        assert (rate, channels, dtype) == (self.rate, 1, "float32")

        def start():
            for i in range(0, len(self.wave), 480):
                block = self.wave[i : i + 480]
                callback(block, len(block), None, None)
            finished_callback()

        return SimpleNamespace(start=start, close=lambda: None)


def test_each_window_is_a_line_with_the_prediction_for_its_samples(small, clips, monkeypatch):
    monkeypatch.setitem(sys.modules, "sounddevice", Device(clips[0]))
    expected = small.seen(clips[0], timeline=True, cut="windows", window=1, hop=0.5).segments
    call = [
        "--mic",
        "--window",
        1,
        "--hop",
        0.5,
        "--run",
        small.run,
        "--head",
        "seen",
        "--device",
        "cpu",
    ]
    result = predict(*call, "--format", "json")
    assert result.return_value == 0
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert [(line["start"], line["end"]) for line in lines] == [(s.start, s.end) for s in expected]
    for line, segment in zip(lines, expected, strict=True):
        assert line["probabilities"] == pytest.approx(segment.probabilities, abs=1e-6)
    first = predict(*call).stdout.splitlines()[0]
    assert first.startswith(f"     0.0 –{expected[0].end:7.1f} s  {expected[0].emotion} (")


def test_without_the_package_or_a_device_it_is_one_sentence(clips, monkeypatch):
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    with pytest.raises(UserError, match=r"sounddevice is not installed; run `pip install") as error:
        predict("--mic")
    assert error.value.exit_code == 2
    monkeypatch.setitem(sys.modules, "sounddevice", Device(clips[0], "Error querying device -1"))
    with pytest.raises(UserError) as error:
        predict("--mic")
    assert str(error.value) == (
        "--mic: no microphone can be opened (Error querying device -1); connect one, or give a "
        "file."
    )


def test_options_of_files_are_refused_with_a_microphone():
    with pytest.raises(UserError, match=r"^--mic: FILES is for files; leave it out\.$"):
        predict("clip.wav", "--mic")
    with pytest.raises(UserError, match=r"^--mic: --out is for files; leave it out\.$"):
        predict("--mic", "--out", "x.csv")
    with pytest.raises(UserError, match=r"^--mic: --format srt is for files; choose table or json"):
        predict("--mic", "--format", "srt")
    with pytest.raises(UserError, match=r"^give FILES, folders, - for standard input, or --mic\.$"):
        predict()
