"""Every meta-model under both protocols, each speaker of a small corpus a test speaker once.

    python -m bench.protocols presets/emodb-tiny.yaml --rotations 5

A rotation tests a share of the speakers, chooses on the next share and trains on the others; women
and men alternate, so that each share has both. Every head of the pipeline is trained anew, and
every stack that `ser stack compare` knows is fitted. The test predictions of all rotations together
are one prediction of the whole corpus: test is their macro-F1, with the speaker-clustered 95 %
interval, and p the paired bootstrap against the pipeline's own stack. Train is the mean of the
rotations' macro-F1 on train, with the logits that the stack learned from; optimism is train less
the mean of the rotations' test. The features must have been extracted.
"""

from collections import defaultdict
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path

import numpy as np
import polars as pl

from bench.report import arguments, machine
from corpus.errors import UserError
from corpus.manifest import Manifest
from score.bootstrap import resample_speakers
from score.compare import compare_classes
from score.metrics import confusion, macro_f1
from ser.heads import train
from ser.pipeline import Pipeline
from stack.compare import choose, name_of, variants
from stack.config import StackConfig
from stack.model import Stack
from stack.run import chosen_heads
from stack.table import TRAIN, LogitTable

SHARES = ("test", "dev")
Name = tuple[str, str]  # model, protocol
Split = tuple[np.ndarray, np.ndarray]  # class indices: truth, chosen


@dataclass
class Told:
    """Hold what one stack said in every rotation."""

    test: list[Split] = field(default_factory=list)
    train: list[float] = field(default_factory=list)


def main() -> None:
    parser = arguments(__doc__ or "")
    parser.add_argument("pipeline", type=Path)
    parser.add_argument("--rotations", type=int, default=5)
    parser.add_argument("--resamples", type=int, default=1000)
    said = parser.parse_args()
    base = Pipeline.load(said.pipeline)
    manifest = Manifest.read(base.corpus.manifest, base.corpus.classes)
    told: dict[Name, Told] = {}
    speakers: list[str] = []
    rotations = rotated(manifest, said.rotations)
    for number, turned in enumerate(rotations[:1] if said.quick else rotations):
        pipeline = _trained(base, said.pipeline, turned, number, said.quick)
        heads = chosen_heads(list(pipeline.heads), pipeline.stack)
        table = LogitTable.read(pipeline.run / "heads", heads)
        _ask(table, pipeline.stack, told)
        rows = table.splits["test"]
        speakers += [s for s, label in zip(rows.speaker, rows.label, strict=True) if label >= 0]
    print(machine())
    print(f"{said.pipeline}: {len(set(speakers))} test speakers, {len(speakers)} utterances")
    found = _table(told, _name(pipeline.stack, table), speakers, len(table.classes), said.resamples)
    with pl.Config(
        tbl_rows=-1,
        tbl_cols=-1,
        tbl_width_chars=110,
        float_precision=3,
        tbl_formatting="NOTHING",
        tbl_hide_dataframe_shape=True,
        tbl_hide_column_data_types=True,
    ):
        print(found)
    if said.json:
        said.json.write_text(found.write_json())


def rotated(manifest: Manifest, rotations: int) -> list[pl.DataFrame]:
    """Return the manifest once a rotation, each speaker in test once and in dev once."""
    known = manifest.frame.select("speaker", "gender").unique().sort("speaker")
    by_gender = [part["speaker"].to_list() for part in known.partition_by("gender")]
    order = [s for group in zip_longest(*by_gender) for s in group if s is not None]
    if not 3 <= rotations <= len(order):
        raise UserError(f"--rotations: use 3 to {len(order)}, the number of speakers.")
    shares = [part.tolist() for part in np.array_split(np.array(order, object), rotations)]
    found = []
    for first in range(rotations):
        split = {
            speaker: name
            for at, name in enumerate(SHARES)
            for speaker in shares[(first + at) % rotations]
        }
        column = pl.col("speaker").replace_strict(split, default=TRAIN, return_dtype=pl.String())
        found.append(manifest.frame.with_columns(split=column))
    return found


def _trained(
    base: Pipeline, path: Path, turned: pl.DataFrame, number: int, quick: bool
) -> Pipeline:
    """Train the heads of one rotation, in a run folder of its own."""
    run = base.run / f"rotation-{number}"
    run.mkdir(parents=True, exist_ok=True)
    file = run / "manifest.parquet"
    turned.write_parquet(file)
    audio = base.corpus.audio or base.corpus.manifest.parent
    changes = [f"corpus.manifest={file.resolve()}", f"corpus.audio={audio}", f"run={run.resolve()}"]
    pipeline = Pipeline.load(path, changes + (["heads.defaults.epochs=1"] if quick else []))
    for report in train(pipeline, list(pipeline.heads)):
        print(f"rotation {number}: {report.name} {report.done} {report.error}", flush=True)
    return pipeline


def _ask(table: LogitTable, own: StackConfig, told: dict[Name, Told]) -> None:
    """Fit every stack on the heads of one rotation and add what it says."""
    for variant in variants(table, own):
        stack = Stack.fit(table, variant)
        one = told.setdefault(_name(variant, table), Told())
        one.test.append(_said(stack, table, "test"))
        truth, chosen = _said(stack, table, TRAIN)
        one.train.append(float(macro_f1(confusion(truth, chosen, len(table.classes)))))


def _name(config: StackConfig, table: LogitTable) -> Name:
    protocol = table.protocol(config.protocol) if config.learns_from == TRAIN else "-"
    return name_of(config), protocol


def _said(stack: Stack, table: LogitTable, split: str) -> Split:
    at = np.flatnonzero(table.splits[split].label >= 0)
    return table.splits[split].label[at], choose(stack, table, split, at)


def _table(
    told: dict[Name, Told],
    default: Name,
    speakers: list[str],
    classes: int,
    resamples: int,
) -> pl.DataFrame:
    draw = resample_speakers(speakers, resamples, 42)
    labels = np.concatenate([truth for truth, _ in told[default].test])
    base = np.concatenate([chosen for _, chosen in told[default].test])
    columns: dict[str, list[object]] = defaultdict(list)
    for (model, protocol), one in told.items():
        chosen = np.concatenate([said for _, said in one.test])
        low, high = draw.interval(macro_f1(draw.confusions(labels, chosen, classes))) or (None,) * 2
        of_each = [float(macro_f1(confusion(*pair, classes))) for pair in one.test]
        same = (model, protocol) == default
        versus = compare_classes(labels, chosen, base, speakers, classes, resamples=resamples)
        row = {
            "model": model,
            "protocol": protocol,
            "train": float(np.mean(one.train)),
            "test": float(macro_f1(confusion(labels, chosen, classes))),
            "low": low,
            "high": high,
            "sd of rotations": float(np.std(of_each, ddof=1)) if len(of_each) > 1 else None,
            "optimism": float(np.mean(one.train) - np.mean(of_each)),
            "p": None if same else versus["p"],
        }
        for name, value in row.items():
            columns[name].append(value)
    return pl.DataFrame(dict(columns)).sort("test", descending=True)


if __name__ == "__main__":
    main()
