"""Two hundred rows with ten bad ones; memory that does not grow with the corpus."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import soundfile

from ser.cache.features import FeatureCache
from ser.corpus.manifest import Manifest
from ser.extract.extractor import SAMPLE_RATE, parse_options
from ser.extract.job import Job, open_feature
from ser.extract.run import extract
from ser.extract.testing import clip
from tests.ser.factories import ser

ROOT = Path(__file__).parents[2]
ROWS = 200
SPAN = "beyond"  # a good file, a span behind its end
REASONS = {  # of each kind of bad row
    "missing": "no such file",
    "empty": "empty file (0 bytes)",
    "text": "not audio (Format not recognised)",
    "truncated": "not audio (Error in WAV file. No 'data' chunk marker)",
    "zeros": "silent (all samples are zero)",
    "nan": "contains NaN or infinite samples",
    "folder": "is a folder",
    SPAN: "no samples between start and end",
}


def spoil(path: Path, kind: str) -> None:
    """Make of a good file a bad one."""
    whole = path.read_bytes()
    path.unlink()
    if kind == "empty":
        path.touch()
    elif kind == "text":
        path.write_text("I am no audio, whatever my name says.")
    elif kind == "truncated":
        path.write_bytes(whole[:30])
    elif kind == "zeros":
        soundfile.write(path, np.zeros(3_200), SAMPLE_RATE)
    elif kind == "nan":
        nan = np.full(3_200, np.nan, np.float32)
        soundfile.write(path, nan, SAMPLE_RATE, subtype="FLOAT")
    elif kind == "folder":
        path.mkdir()
    elif kind == SPAN:
        path.write_bytes(whole)


def write_rows(folder: Path) -> tuple[Manifest, dict[str, str]]:
    """Write 200 rows, every twentieth bad, the kinds in turn; returns utterance -> reason."""
    folder.mkdir()
    rows, reasons, kinds = [], {}, list(REASONS)
    for i in range(ROWS):
        name, start = f"u{i:04}", None
        path = folder / f"{name}.wav"
        soundfile.write(path, clip(0.1 + 0.001 * (i % 200), i), SAMPLE_RATE)
        if i % 20 == 7:
            kind = kinds[i // 20 % len(kinds)]
            spoil(path, kind)
            start = 5.0 if kind == SPAN else None
            reasons[name] = f"{path}: {REASONS[kind]}"
        rows.append((name, path.name, start))
    columns = {"utterance": pl.String(), "path": pl.String(), "start": pl.Float64()}
    return Manifest(pl.DataFrame(rows, schema=columns, orient="row")), reasons


def test_five_percent_of_bad_files_cost_five_percent_of_the_rows(tmp_path: Path) -> None:
    audio = tmp_path / "audio"
    manifest, reasons = write_rows(audio)
    manifest.write(tmp_path / "m.parquet")
    command = ["extract", "--kind", "prosody", "--manifest", "m.parquet", "--audio", audio]
    job = Job("prosody", parse_options({"kind": "prosody"}), manifest, audio, tmp_path / "cache")

    first = ser(*command, "--cache", "cache", cwd=tmp_path)
    assert (first.returncode, first.stderr) == (1, "")
    assert "prosody: 190 extracted, 0 already cached, 10 failed" in first.stdout
    cached = open_feature(job)
    assert isinstance(cached, FeatureCache)
    assert set(cached.index()["utterance"]) == set(manifest.utterances()) - set(reasons)
    assert cached.verify() == []
    assert listed(pl.read_parquet(cached.path / "failed.parquet")) == reasons

    mended = next(u for u, reason in reasons.items() if reason.endswith("(0 bytes)"))
    again = extract(job, "cpu")
    assert (again.cached, again.extracted, again.failed) == (190, 0, reasons)
    soundfile.write(audio / f"{mended}.wav", clip(0.2), SAMPLE_RATE)
    del reasons[mended]
    third = extract(job, "cpu")
    assert (third.cached, third.extracted, third.failed) == (190, 1, reasons)
    cached = open_feature(job)
    assert isinstance(cached, FeatureCache)
    assert listed(cached.failed()) == reasons
    assert cached.frames(mended).shape == (20, 16)


def listed(frame: pl.DataFrame) -> dict[str, str]:
    return dict(frame.select("utterance", "error").iter_rows())


# Twenty files under many names, each 0.25 s: 16 kB of audio, 64 kB of frames. The peak is that of a
# process of its own; VmHWM starts anew with a program, where ru_maxrss begins with the parent's.
EXTRACT = """
import sys
from pathlib import Path
import numpy as np
import polars as pl
from ser.corpus.manifest import Manifest
from ser.extract.extractor import Extractor, extractor, parse_options
from ser.extract.job import Job
from ser.extract.run import extract
@extractor("wide")
class Wide(Extractor):
    item_shape, frame_rate = (640,), 100.0
    def load(self, device):
        pass
    def extract(self, batch):
        return [np.tile(wave.reshape(-1, 160), 4) for wave in batch]
folder, clips = Path(sys.argv[1]), int(sys.argv[2])
rows = [(f"u{i}", f"{i % 20}.wav") for i in range(clips)]
manifest = Manifest(pl.DataFrame(rows, schema=["utterance", "path"], orient="row"))
job = Job("wide", parse_options({"kind": "wide"}), manifest, folder, folder)
report = extract(job, "cpu", frame_budget=500)
assert report.extracted == clips, report
lines = Path("/proc/self/status").read_text().splitlines()
print(next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1e3)
"""


def peak_mb(folder: Path, clips: int) -> float:
    folder.mkdir()
    for i in range(20):
        soundfile.write(folder / f"{i}.wav", clip(0.25, i), SAMPLE_RATE)
    command = [sys.executable, "-c", EXTRACT, str(folder), str(clips)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return float(subprocess.check_output(command, cwd=ROOT, env=environment, text=True))


@pytest.mark.slow
def test_peak_memory_is_that_of_a_few_batches_not_of_the_corpus(tmp_path: Path) -> None:
    few, many = (peak_mb(tmp_path / str(clips), clips) for clips in (500, 2_500))
    # 2,000 clips more are 30 MB of audio, 130 MB of frames and 1 MB of ids and index
    assert many - few < 40, f"{few:.0f} MB for 500 clips, {many:.0f} MB for 2,500"
