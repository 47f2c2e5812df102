"""A corpus whose extractor can be told to be slow, to be killed, to refuse and to break."""

from pathlib import Path

from cache.features import FeatureCache
from extract.loop import Report
from extract.run import open_feature
from ser.shards import read_jobs, run_shard
from tests.ser.factories import make_corpus

CLIPS = 12
PLUGIN = """\
import os
import signal
import time
from pathlib import Path

from corpus.errors import UserError
from extract.extractor import FeatureOptions, extractor
from extract.kinds.prosody import Prosody


class Options(FeatureOptions):
    folder: str  # a file in it tells the worker what to do


@extractor("fragile")
class Fragile(Prosody):
    Options = Options

    def cost(self, size):
        return 6000.0  # one clip a batch

    def told(self, word):
        return (Path(self.options.folder) / word).exists()

    def load(self, device):
        super().load(device)
        self.batches = 0
        if self.told("refuse"):
            raise ValueError("the model has no such layer")
        if self.told("break"):
            raise TypeError("a bug of ours")

    def extract(self, batch):
        self.batches += 1
        folder = Path(self.options.folder)
        (folder / f"{os.getpid()}.pid").touch()
        if self.told("slow"):
            time.sleep(0.2)
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


def opened(pipeline: Path, *overrides: str, name: str = "one") -> FeatureCache:
    found = open_feature(read_jobs(pipeline, overrides, [name])[0])
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
    return opened(pipeline).stored_index()["utterance"].is_unique().all()


def alone(pipeline: Path, name: str = "one") -> dict[str, int]:
    """Return what one process without shards gives."""
    elsewhere = "cache=alone"
    run_shard(print, str(pipeline), [elsewhere], [name], "cpu", (0, 1))
    return checksums(pipeline, elsewhere, name=name)


def counts(report: Report) -> tuple[int, int, int]:
    return report.cached, report.extracted, len(report.failed)
