"""What `tests.faults` kills in a run folder: training, stacking, scoring, reports, bundles."""

import os
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from zipfile import ZipFile

import numpy as np

from tests.faults import Scenario, State

PRELOAD = (
    "torch",
    "sklearn.ensemble",
    "lightgbm",
    "polars",
    "h5py",
    "plotly.graph_objects",
    "transformers",
    "ser.commands.main",
    "ser.stages.heads",
    "ser.engines.heads",
    "ser.finetune.run",
    "ser.packing.pack",
    "ser.stages.run",
    "ser.score.run",
    "ser.score.report.run",
    "ser.stack.compare",
    "ser.stack.run",
    "ser.extract.run",
    "ser.commands.live",
)
CLASSES = ("angry", "sad", "neutral")
RATE = 16_000
PIPELINE = """\
corpus: {manifest: m.csv, audio: audio, classes: [angry, sad, neutral]}
cache: cache
run: run
features:
  prosody: {kind: prosody}
heads:
  defaults: {hidden: 8, epochs: 4, lr: 1.0e-2, batch: 16}
  good: {features: [{name: prosody, stride: 8}], epochs: 2}
  one: {features: [{name: prosody, stride: 8}], cross_fit: 2}
  two: {features: [prosody], loss: [wce, sml], sampler: neutral_expressive}
stack:
  model: random_forest
  folds: 3
  random_forest: {trees: 30, min_samples_leaf: 1, min_samples_split: 2}
score: {bootstrap: 50, resamples: 200}
"""
FINETUNE = """\
finetune:
  ft: {model: model, kind: speech, hidden: 8, epochs: 1, batch: 16, lr: 1.0e-3}
"""


def ser(*words: str) -> Callable[[Path], None]:
    """Return a command of the command line, to be run in a folder."""

    def command(folder: Path) -> None:
        from ser.commands.main import cli

        os.chdir(folder)
        code = cli(list(words), standalone_mode=False)
        if code:
            raise RuntimeError(f"ser {' '.join(words)} exited with {code}")

    return command


def write_corpus(folder: Path, count: int = 60) -> None:
    """Write short buzzes whose pitch depends on the class, a manifest and a pipeline."""
    import polars as pl
    import soundfile

    (folder / "audio").mkdir()
    rows = []
    for i in range(count):
        time = np.arange(int((0.3 + 0.005 * i) * RATE)) / RATE
        wave = sum(np.sin(2 * np.pi * (100 + 40 * (i % 3)) * k * time) / k for k in range(1, 8))
        soundfile.write(folder / "audio" / f"u{i}.wav", np.asarray(wave * 0.1, np.float32), RATE)
        split = ("train", "train", "train", "dev", "test")[i // 3 % 5]
        rows.append((f"u{i}", f"u{i}.wav", CLASSES[i % 3], f"{split}-{i % 4}", split))
    columns = ["utterance", "path", "emotion", "speaker", "split"]
    pl.DataFrame(rows, schema=columns, orient="row").write_csv(folder / "m.csv")
    (folder / "pipeline.yaml").write_text(PIPELINE)


def after(*commands: tuple[str, ...]) -> Callable[[Path], None]:
    """Return what writes a corpus and runs these commands on it."""

    def prepare(folder: Path) -> None:
        write_corpus(folder)
        for words in commands:
            ser(*words)(folder)

    return prepare


def heads(folder: Path) -> State:
    """Return the logits and probabilities of every trained head, by its own readers."""
    from ser.cache.logits import HeadLogits
    from ser.corpus.errors import DamagedError
    from ser.heads.record import read_done
    from ser.heads.trained import TrainedHead

    state: dict[str, object] = {}
    for place in sorted((folder / "run" / "heads").glob("[!.]*/head.json")):
        name = place.parent.name
        try:
            record = read_done(folder / "run", name)
            assert record is not None
            logits = HeadLogits.read(place.parent / "logits.h5")
            head = TrainedHead.load(place.parent)
        except DamagedError:  # as the next run finds too
            continue
        weights = [value for module in head.modules for value in module.state_dict().values()]
        arrays = [
            *(rows.logits for rows in logits.splits.values()),
            *(value.numpy() for value in weights),
        ]
        digest = sha256(b"".join(np.ascontiguousarray(a).tobytes() for a in arrays)).hexdigest()
        state[name] = (record.fingerprint, record.score, digest)
    return state


def stack_state(folder: Path) -> State:
    """Return what the stack predicts, and its file of predictions."""
    import ser.stack.run
    from ser.corpus.errors import UserError

    file = folder / "run" / "stack" / "predictions.parquet"
    try:
        predicted = ser.stack.run.predict(folder / "run").write_csv()
    except UserError:
        return {}
    return {"stack": (predicted, sha256(file.read_bytes()).hexdigest())}


def files(*names: str) -> Callable[[Path], State]:
    """Return what reads files of a run, those that are there."""

    def state(folder: Path) -> State:
        paths = {name: folder / "run" / name for name in names}
        return {name: path.read_bytes() for name, path in paths.items() if path.exists()}

    return state


def bundle(folder: Path) -> State:
    """Return the members of the bundle but those that have the time of packing."""
    path = folder / "out.ser"
    if not path.exists():
        return {}
    with ZipFile(path) as archive:
        names = [n for n in archive.namelist() if n not in ("bundle.json", "card.md")]
        return {"bundle": {name: sha256(archive.read(name)).hexdigest() for name in names}}


def fine_tuned(folder: Path) -> State:
    """Return the fine-tuned model's files, its head, and the other heads."""
    model = folder / "run" / "finetuned" / "ft" / "model.safetensors"
    state = dict(heads(folder))
    if "ft" in state:
        state["ft"] = (*state["ft"], sha256(model.read_bytes()).hexdigest())
    return state


def with_model(folder: Path) -> None:
    """Write a corpus, train a head, and make a tiny speech model to be fine-tuned."""
    from ser.synthetic.models import tiny_model

    write_corpus(folder, count=15)
    model = tiny_model("speech", "microsoft/wavlm-large", folder / "models", [])
    model.rename(folder / "model")
    (folder / "models").rmdir()
    (folder / "pipeline.yaml").write_text(PIPELINE + FINETUNE)
    ser("extract", "--all")(folder)
    ser("heads", "train", "good")(folder)


EXTRACT = ("extract", "--all")
TRAIN = ("heads", "train-all", "--jobs", "1")
OTHER_STACK = ("stack", "fit", "--set", "stack.seed=1")
OTHER_SCORE = ("score", "--set", "score.bootstrap=20")
REPORT = ("report", "--figures", "none")
REPORT_FILES = ("report/metrics.json", "report/predictions.csv")
PAGES = ("report/report.html", "report/report.md", "report/tables.tex")

SCENARIOS = [
    Scenario(
        "heads train-all",
        after(EXTRACT, ("heads", "train", "good")),
        ser(*TRAIN),
        heads,
    ),
    Scenario("stack fit", after(EXTRACT, TRAIN, OTHER_STACK), ser("stack", "fit"), stack_state),
    Scenario(
        "score",
        after(EXTRACT, TRAIN, ("stack", "fit"), OTHER_SCORE),
        ser("score"),
        files(*REPORT_FILES),
    ),
    Scenario(
        "report",
        after(EXTRACT, TRAIN, OTHER_STACK, REPORT, ("stack", "fit")),
        ser(*REPORT),
        files(*REPORT_FILES, *PAGES),
    ),
    Scenario(
        "pack",
        after(EXTRACT, TRAIN, OTHER_STACK, ("pack", "run", "-o", "out.ser"), ("stack", "fit")),
        ser("pack", "run", "-o", "out.ser"),
        bundle,
    ),
    Scenario("finetune", with_model, ser("finetune"), fine_tuned),
]
