"""`ser submit`, from the folder of a corpus like MSP-Podcast to the challenge's csv."""

import numpy as np
import polars as pl

from ser.cache.logits import HeadLogits, SplitLogits
from ser.corpus.config import MSP_CLASSES
from tests.ser.factories import ser

PIPELINE = """\
corpus: {manifest: m.parquet}
cache: cache
run: run
features: {prosody: {kind: prosody}}
heads: {one: {features: [prosody]}, two: {features: [prosody]}}
stack: {model: mean_logits, attributes: mean}
"""
LABELS = "FileName,EmoClass,EmoAct,EmoVal,EmoDom,SpkrID,Gender,Split_Set\n" + "".join(
    f"MSP-PODCAST_{i:04}_0001.wav,{'ASHUFDCNXO'[i % 10]},4.5,3.5,4,{i % 3},Male,{split}\n"
    for i, split in enumerate(["Train"] * 20 + ["Development"] * 10 + ["Test1"] * 2)
)


def make_corpus(folder):
    """Write labels of train, dev and Test1, and four files of Test3 that nothing names."""
    for name in ("Labels", "Audios"):
        (folder / "corpus" / name).mkdir(parents=True)
    (folder / "corpus" / "Labels" / "labels_consensus.csv").write_text(LABELS)
    for i in range(4):
        (folder / "corpus" / "Audios" / f"MSP-PODCAST_test3_{i:04}.wav").touch()
    (folder / "pipeline.yaml").write_text(PIPELINE)
    done = ser("corpus", "import", "msp-podcast", "corpus", "--out", "m.parquet", cwd=folder)
    assert done.returncode == 0, done.stderr
    return pl.read_parquet(folder / "m.parquet")


def write_heads(folder, frame):
    """Write what two heads say: class i of the i-th file of a split, and i / 4 of dominance."""
    for name in ("one", "two"):
        splits = {}
        for (split,), rows in frame.group_by("split", maintain_order=True):
            n = rows.height
            splits[str(split)] = SplitLogits(
                utterance=rows["utterance"].to_list(),
                logits=np.eye(8)[np.arange(n) % 8],
                label=np.arange(n) % 8 if split == "train" else np.full(n, -1),
                speaker=[""] * n,
                fold=np.full(n, -1),
                rows="in-sample" if split == "train" else "held-out",
                predicted=np.arange(n)[:, None] / np.array([1.0, 2.0, 4.0]),
                truth=np.full((n, 3), np.nan),
            )
        attributes = ("arousal", "valence", "dominance")
        head = HeadLogits(name, MSP_CLASSES, f"made {name}", {}, splits, attributes)
        head.write(folder / "run" / "heads" / name / "logits.h5")


def test_a_corpus_of_unknown_truth_becomes_a_submission(tmp_path):
    write_heads(tmp_path, make_corpus(tmp_path))
    assert ser("stack", "fit", cwd=tmp_path).returncode == 0
    names = [f"MSP-PODCAST_test3_{i:04}.wav" for i in (2, 0, 3, 1)]
    (tmp_path / "expected.csv").write_text("\n".join(["FileName", *names]))
    done = ser("submit", "--expected", "expected.csv", cwd=tmp_path)
    folder = tmp_path / "run" / "report"
    assert (done.returncode, done.stderr, done.stdout) == (
        0,
        "",
        f"{folder}/submission-emotion.csv: 4 files; A 1, H 1, S 1, U 1\n"
        f"{folder}/submission-attributes.csv: 4 files; EmoAct 0.00 to 3.00, EmoVal 0.00 to 1.50, "
        "EmoDom 0.00 to 0.75\n",
    )
    assert (folder / "submission-emotion.csv").read_text() == (
        "FileName,EmoClass\nMSP-PODCAST_test3_0002.wav,H\nMSP-PODCAST_test3_0000.wav,A\n"
        "MSP-PODCAST_test3_0003.wav,U\nMSP-PODCAST_test3_0001.wav,S\n"
    )
    assert (folder / "submission-attributes.csv").read_text() == (
        "FileName,EmoAct,EmoVal,EmoDom\n"
        "MSP-PODCAST_test3_0002.wav,2.000000,1.000000,0.500000\n"
        "MSP-PODCAST_test3_0000.wav,0.000000,0.000000,0.000000\n"
        "MSP-PODCAST_test3_0003.wav,3.000000,1.500000,0.750000\n"
        "MSP-PODCAST_test3_0001.wav,1.000000,0.500000,0.250000\n"
    )


def test_one_head_another_split_and_another_folder(tmp_path):
    write_heads(tmp_path, make_corpus(tmp_path))
    done = ser("submit", "--head", "two", "--split", "dev", "--out", "mine", cwd=tmp_path)
    assert done.stdout.splitlines()[0] == (
        "mine/submission-emotion.csv: 10 files; A 2, S 2, C 1, D 1, F 1, H 1, N 1, U 1"
    )
    assert pl.read_csv(tmp_path / "mine" / "submission-emotion.csv")["FileName"][9] == (
        "MSP-PODCAST_0029_0001.wav"
    )


def test_mistakes_cost_one_sentence(tmp_path):
    write_heads(tmp_path, make_corpus(tmp_path))
    done = ser("submit", "--head", "three", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (
        2,
        "ser: pipeline.yaml: there is no head 'three'; choose from one, two.\n",
    )
    done = ser("submit", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith(f"ser: {tmp_path}/run/stack/stack.json: there is no stack; ")
    done = ser("submit", "--out", "mine.csv", cwd=tmp_path)
    assert done.returncode == 2
    assert "--out mine.csv: give a folder; two files may be written." in done.stderr
