"""Own audio gets the numbers of the run; single, listed, streamed, threaded all the same."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import soundfile

import ser
from cache.logits import HeadLogits
from corpus.errors import UserError
from score.heads import softmax
from ser.predict import Failure, frame
from tests.ser.factories import CLASSES, tone

CLOSE = {"rtol": 0, "atol": 1e-5}


def paths_of(small, split):
    rows = small.frame.filter(pl.col("split") == split)
    return {u: small.audio / path for u, path in rows.select("utterance", "path").iter_rows()}


def numbers(probabilities):
    assert tuple(probabilities) == CLASSES
    return np.array(list(probabilities.values()))


@pytest.mark.parametrize("split", ["dev", "test"])
def test_the_probabilities_are_those_of_the_run(small, split):
    paths = paths_of(small, split)
    results = dict(zip(paths, small.p(list(paths.values())), strict=True))
    rows = pl.read_parquet(small.run / "stack" / "predictions.parquet").rows_by_key(
        "utterance", named=True, unique=True
    )
    heads = {}
    for name in small.p.heads:
        said = HeadLogits.read(small.run / "heads" / name / "logits.h5").splits[split]
        heads[name] = dict(zip(said.utterance, softmax(said.logits), strict=True))
    assert set(heads) == {"gru", "stats", "rated"}
    for utterance, result in results.items():
        row = rows[utterance]
        expected = [row[f"p.{name}"] for name in CLASSES]
        np.testing.assert_allclose(numbers(result.probabilities), expected, **CLOSE)
        assert result.emotion == row["prediction"]
        for name, rated in result.attributes.items():
            assert rated == pytest.approx(row[f"predicted.{name}"], abs=1e-4)
        assert list(result.attributes) == ["arousal", "valence", "dominance"]
        for name, said in result.heads.items():
            np.testing.assert_allclose(numbers(said), heads[name][utterance], **CLOSE)


def test_train_clips_of_a_cross_fitted_head_get_the_mean_of_its_folds(small):
    # which is what the logits of dev and test are; those of train are out of fold or in sample
    p = ser.load(small.run, "cpu", head="gru")
    assert (p.heads, p.stack, p.attributes) == (("gru",), None, ())
    said = HeadLogits.read(small.run / "heads" / "gru" / "logits.h5").splits["test"]
    found = p([small.audio / f"{u}.wav" for u in said.utterance])
    table = np.array([numbers(result.probabilities) for result in found])
    np.testing.assert_allclose(table, softmax(said.logits), **CLOSE)


def test_the_clips_of_one_speaker_are_standardised_together(small):
    said = HeadLogits.read(small.run / "heads" / "voice" / "logits.h5").splits["test"]
    p = ser.load(small.run, "cpu", head="voice")
    for speaker in sorted(set(said.speaker)):
        of = [i for i, name in enumerate(said.speaker) if name == speaker]
        found = p([small.audio / f"{said.utterance[i]}.wav" for i in of], one_speaker=True)
        table = np.array([numbers(result.probabilities) for result in found])
        np.testing.assert_allclose(table, softmax(said.logits[of]), **CLOSE)
    alone = p([small.audio / f"{u}.wav" for u in said.utterance])
    single = p(small.audio / f"{said.utterance[0]}.wav", one_speaker=True)
    assert alone[0].probabilities == pytest.approx(single.probabilities, abs=1e-6)


def test_a_list_equals_the_clips_alone_whatever_form_they_come_in(small, clips):
    listed = small.p(clips)
    samples = [soundfile.read(path, dtype="int16") for path in clips]
    ways = {
        "alone": [small.p(str(path)) for path in clips],
        "generator": list(small.p(path for path in clips)),
        "arrays": small.p(samples),
        "stereo": small.p([(np.stack([x, x], 1).astype("f4") / 32768, r) for x, r in samples]),
    }
    assert [result.path for result in ways["alone"]] == [str(path) for path in clips]
    for found in ways.values():
        for one, other in zip(listed, found, strict=True):
            assert one.probabilities == pytest.approx(other.probabilities, abs=1e-5)
            assert one.transcript == other.transcript
            assert one.seconds == other.seconds


def test_eight_threads_say_what_one_says(small, clips):
    expected = [small.p(path).probabilities for path in clips] * 2
    with ThreadPoolExecutor(8) as pool:
        found = [result.probabilities for result in pool.map(small.p, clips * 2)]
    assert found == expected


def test_a_clip_is_one_segment_and_a_timeline_has_more(small, tmp_path):
    path = tmp_path / "long.wav"
    soundfile.write(path, np.concatenate([tone(i, 4.0) for i in range(3)]), 16_000)
    whole = small.p(path)
    assert [(s.start, s.end) for s in whole.segments] == [(0.0, 12.0)]
    assert whole.segments[0].probabilities == whole.probabilities
    windows = small.p(path, timeline=True, cut="windows", window=6, hop=3)
    assert [(s.start, s.end) for s in windows.segments] == [(0, 6), (3, 9), (6, 12)]
    mean = np.mean([numbers(s.probabilities) for s in windows.segments], axis=0)
    np.testing.assert_allclose(numbers(windows.probabilities), mean, rtol=1e-12)
    assert windows.seconds == 12.0


def test_a_segment_is_what_its_samples_are_alone(small):
    wave = np.concatenate([tone(i, 3.0) for i in range(3)])
    segments = small.p((wave, 16_000), timeline=True, cut="windows", window=4, hop=4).segments
    for segment in segments:
        part = wave[round(segment.start * 16_000) : round(segment.end * 16_000)]
        alone = small.p((part, 16_000))
        assert segment.probabilities == pytest.approx(alone.probabilities, abs=1e-5)


def test_explanations_sum_to_one_and_are_as_long_as_the_features(small, clips):
    result = small.p(clips[0], explain=True)
    assert set(result.attention) == {"whisper", "text", "layers", "prosody"}
    for name, looked in result.attention.items():
        assert looked.weights.sum() == pytest.approx(1, abs=1e-6), name
        assert (looked.weights >= 0).all()
    samples = round(result.seconds * 16_000)
    whisper = result.attention["whisper"]
    assert len(whisper.weights) == len(whisper.times) == -(-samples // 320)
    assert whisper.times[:2].tolist() == [0.0, 0.02]
    assert result.attention["text"].times is None
    if result.transcript:
        assert " ".join(word.word for word in result.words) == result.transcript
        assert sum(word.weight for word in result.words) == pytest.approx(1, abs=1e-6)
    assert small.p(clips[0]).attention == {}


def test_bad_clips_are_failures_and_harm_no_other(small, clips, tmp_path):
    text, silent = tmp_path / "text.wav", tmp_path / "silent.wav"
    text.write_text("not audio")
    soundfile.write(silent, np.zeros(16_000), 16_000)
    found = list(small.p.each([clips[0], text, clips[1], silent, tmp_path / "absent.wav"]))
    assert [each for each in found if isinstance(each, Failure)] == [
        Failure(str(text), "not audio (Format not recognised)"),
        Failure(str(silent), "silent (all samples are zero)"),
        Failure(str(tmp_path / "absent.wav"), "no such file"),
    ]
    assert [each.path for each in found if not isinstance(each, Failure)] == list(
        map(str, clips[:2])
    )
    with pytest.raises(UserError) as error:
        small.p(text)
    assert str(error.value) == f"{text}: not audio (Format not recognised); give another clip."
    with pytest.raises(UserError, match=r"^an array of shape \(2, 2, 2\) and float64 at 16000 Hz"):
        small.p((np.zeros((2, 2, 2)), 16_000))


def test_a_table_has_a_row_a_clip_or_a_segment(small, clips):
    table = frame(small.p(clips[:2]))
    assert table.columns == [
        *("path", "seconds", "emotion", "p.angry", "p.sad", "p.neutral"),
        *("arousal", "valence", "dominance", "transcript"),
    ]
    assert table["path"].to_list() == [str(path) for path in clips[:2]]
    segments = frame(small.p(clips[:2]), segments=True)
    assert segments.columns[:4] == ["path", "start", "end", "emotion"]


def test_a_run_that_is_none_and_one_that_is_not_whole_are_said(small, tmp_path):
    with pytest.raises(UserError) as error:
        ser.load(tmp_path)
    assert str(error.value) == (
        f"{tmp_path}: it is no run, there is no pipeline.yaml in it; give the folder that `run:` "
        "names, as runs/demo."
    )
    text = (small.run / "pipeline.yaml").read_text()
    (tmp_path / "pipeline.yaml").write_text(text.replace(f"run: {small.run}", "run: runs/small"))
    with pytest.raises(UserError) as error:
        ser.load(tmp_path)
    assert str(error.value) == (
        f"{tmp_path}/pipeline.yaml: its paths are relative, as an older version wrote them; run "
        "`ser stack fit` once with the pipeline that this run was made by."
    )
    (tmp_path / "pipeline.yaml").write_text(text)
    with pytest.raises(UserError) as error:
        ser.load(tmp_path)
    assert str(error.value) == (
        f"{tmp_path}: no head is trained in it; run `ser run`, or give another folder."
    )


def test_other_weights_than_the_heads_learned_on_are_refused(small, clips, tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    for name in ("heads", "stack"):
        (run / name).symlink_to(small.run / name)
    text = (small.run / "pipeline.yaml").read_text()
    (run / "pipeline.yaml").write_text(text.replace("silence: 8", "silence: 7"))
    with pytest.raises(UserError, match=r"^features\.words: |^features\.whisper: ") as error:
        ser.load(run)(clips[0])
    assert str(error.value).endswith(
        "the model or its options are not those that the heads were trained on; give the same "
        "weights, or train the heads again."
    )


def test_the_best_head_answers_where_there_is_no_stack(small, clips, tmp_path):
    for name in ("heads", "pipeline.yaml"):
        (tmp_path / name).symlink_to(small.run / name)
    p = ser.load(tmp_path)
    assert p.stack is None
    assert len(p.heads) == 1
    result = p(clips[0])
    assert result.heads[p.heads[0]] == result.probabilities


MEMORY = """\
import resource, sys
import numpy as np, soundfile
import ser
run, minutes = sys.argv[1], int(sys.argv[2])
with soundfile.SoundFile("long.wav", "w", 16_000, 1) as file:
    rng = np.random.default_rng(0)
    for _ in range(minutes):
        file.write(rng.standard_normal(960_000) * 0.05)
p = ser.load(run, "cpu", head="seen")
result = p("long.wav", cut="windows")
print(len(result.segments), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""


def test_a_long_file_takes_no_more_memory_than_a_short_one(small, tmp_path):
    found = {}
    for minutes in (2, 20):
        command = [sys.executable, "-c", MEMORY, str(small.run), str(minutes)]
        run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
        segments, found[minutes] = map(int, run.stdout.split())
        assert segments == minutes * 12 - 1
    assert found[20] < found[2] * 1.1 + 20


def test_importing_ser_is_cheap():
    code = "import sys, ser; print([m for m in ('torch', 'polars', 'numpy') if m in sys.modules])"
    found = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[3],
    )
    assert found.stdout == "[]\n"
