"""A corpus whose extractor can be told to hold, to be killed, to refuse and to break."""

import time
from dataclasses import asdict
from pathlib import Path

from ser.cache.features import FeatureCache
from ser.cache.index_file import stored
from ser.engines.shards import read_jobs, run_shard
from ser.extract.job import open_feature
from ser.extract.loop import Report
from ser.pipeline.file import Origin
from tests.ser.factories import make_corpus

CLIPS = 12
REFUSED = (
    "the extractor 'fragile' (fragile_extractor.Fragile) cannot be loaded (ValueError: the model "
    "has no such layer); correct its load."
)
PLUGIN = """\
import os
import signal
import time
from pathlib import Path

from ser.corpus.errors import UserError
from ser.extract import device_memory
from ser.extract.extractor import extractor
from ser.extract.kinds.prosody import Prosody, ProsodyOptions


device_memory.free_bytes = lambda device, processes: 0  # there is no GPU


class Options(ProsodyOptions):
    folder: str  # a file in it tells the worker what to do


@extractor("fragile")
class Fragile(Prosody):
    Options = Options

    def cost(self, size):
        if self.told("break"):
            raise TypeError("a bug of ours")
        return 6000.0  # one clip a batch

    def told(self, word):
        return (Path(self.options.folder) / word).exists()

    def load(self, device):
        super().load(device)
        self.batches, self.batches_at_once = 0, 1
        if self.told("refuse"):
            raise ValueError("the model has no such layer")

    def extract(self, batch):
        self.batches += 1
        folder = Path(self.options.folder)
        (folder / f"{os.getpid()}.pid").write_text(os.environ.get("CUDA_VISIBLE_DEVICES", ""))
        if self.told("hold") and self.batches == 2:
            (folder / f"{os.getpid()}.held").touch()
            while self.told("hold"):
                time.sleep(0.02)
        if self.told("exit"):
            os._exit(7)
        if self.told("kill") and self.batches == 2:
            try:
                (folder / "kill").unlink()
            except FileNotFoundError:  # another worker was faster
                pass
            else:
                os.kill(os.getpid(), signal.SIGKILL)
        return super().extract(batch)
"""


def make_fragile(folder: Path) -> Path:
    """Write clips, the extractor and a pipeline; returns the pipeline's file."""
    make_corpus(folder, CLIPS)
    (folder / "fragile_extractor.py").write_text(PLUGIN)
    path = folder / "pipeline.yaml"
    path.write_text(
        "corpus: {manifest: m.csv, audio: audio, classes: [angry, sad, neutral]}\n"
        "cache: cache\n"
        "run: run\n"
        "plugins: [fragile_extractor]\n"
        "features:\n"
        f"  one: {{kind: fragile, folder: {folder}}}\n"
        "  prosody: {kind: prosody}\n"
    )
    return path


def origin(pipeline: Path, *overrides: str) -> Origin:
    return Origin(str(pipeline), overrides)


def opened(pipeline: Path, *overrides: str, name: str = "one") -> FeatureCache:
    found = open_feature(read_jobs(origin(pipeline, *overrides), [name])[0])
    assert isinstance(found, FeatureCache)
    return found


def checksums(pipeline: Path, *overrides: str, name: str = "one") -> dict[str, int]:
    """Return the crc32c that is stored for each utterance, after a look at every byte."""
    cache = opened(pipeline, *overrides, name=name)
    assert cache.verify() == []
    index = cache.index()
    return dict(zip(index["utterance"], index["crc32c"], strict=True))


def written_once(pipeline: Path) -> bool:
    """Tell whether no utterance was written twice."""
    return stored(opened(pipeline))["utterance"].is_unique().all()


def alone(pipeline: Path, name: str = "one") -> dict[str, int]:
    """Return what one process without shards gives."""
    elsewhere = "cache=alone"
    run_shard(print, asdict(origin(pipeline, elsewhere)), [name], "cpu", 1, (0, 1))
    return checksums(pipeline, elsewhere, name=name)


def counts(report: Report) -> tuple[int, int, int]:
    return report.cached, report.extracted, len(report.failed)


def wait_for(condition, what):
    deadline = time.monotonic() + 120  # on a busy machine a worker starts in half a minute
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


def is_running(pid):
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):  # the latter if it ends while it is read
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"
