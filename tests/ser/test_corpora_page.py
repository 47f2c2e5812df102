"""The commands of docs/corpora.md, on a tenth of each corpus and with one epoch."""

import json
import os
import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.ser.factories import ser

PAGE = (Path(__file__).parents[2] / "docs" / "corpora.md").read_text()
COMMANDS = dict(re.findall(r"<!-- test: (\w+) -->\n```bash\n(.*?)```", PAGE, re.S))
FOLDERS = {"emodb": "emodb4", "ravdess": "ravdess", "emovo": "emovo"}
UTTERANCES = {"emodb": 34, "ravdess": 144, "emovo": 59}
pytestmark = pytest.mark.skipif("SER_SHARED" not in os.environ, reason="SER_SHARED is not set")


def a_tenth(folder):
    """Copy every tenth clip of each corpus."""
    for name, source in FOLDERS.items():
        (folder / name).mkdir()
        clips = sorted((Path(os.environ["SER_SHARED"]) / "corpora" / source).glob("*.flac"))
        for clip in clips[::10]:
            shutil.copy(clip, folder / name)
        assert len(clips[::10]) == UTTERANCES[name]


def run(name, folder):
    """Run the commands of a block; a pipeline that was written trains one epoch."""
    for line in COMMANDS[name].replace("\\\n", "").splitlines():
        program, *words = shlex.split(line)
        assert program == "ser"
        done = ser(*words, cwd=folder, BROWSER_PATH=str(folder / "no browser"))
        assert done.returncode == 0, f"{line}\n{done.stderr}"
        if words[0] == "init":
            pipeline = folder / words[words.index("--out") + 1]
            text = pipeline.read_text()
            assert "seeds: 3" in text
            pipeline.write_text(text.replace("seeds: 3", "seeds: 1, epochs: 1"))
    return done.stdout


def test_every_block_is_run_by_a_test():
    assert list(COMMANDS) == [*FOLDERS, "joined"]


@pytest.mark.slow  # other tests look up the options of the page, and validate over speakers
def test_from_a_folder_of_clips_to_a_cross_validated_report(tmp_path):
    a_tenth(tmp_path)
    run("emodb", tmp_path)
    pooled = tmp_path / "runs" / "emodb" / "cv" / "speaker"
    assert len(json.loads((pooled / "rotations.json").read_text())["rotations"]) == 10
    metrics = json.loads((pooled / "report" / "metrics.json").read_text())
    utterances = {name: np.sum(s["confusion"]) for name, s in metrics["test"].items()}
    assert utterances == {"pooled": 34, "pooled-prosody": 34, "probe": 34, "stack": 34}
    assert "Rotations" in (pooled / "report" / "report.html").read_text()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_three_corpora_alone_and_together(tmp_path):
    a_tenth(tmp_path)
    for name in FOLDERS:
        run(name, tmp_path)
    listed = run("joined", tmp_path)
    assert {"emodb", "ravdess", "emovo", "all"} <= set(re.findall(r"[a-z]+", listed))
    cross = json.loads((tmp_path / "runs" / "all" / "cross" / "corpus" / "cross.json").read_text())
    assert cross
