"""Every meta-model under both protocols; each speaker of a small corpus is a test speaker once.

    python -m bench.protocols presets/emodb-tiny.yaml --rotations 5

The rotations are those of `ser cv --by speaker --groups N`, and the table is that of `ser stack
compare --cv`: every head of the pipeline is trained in every rotation, and every stack is fitted.
The test predictions of all rotations together are one prediction of the whole corpus: test is their
macro-F1, with the speaker-clustered 95 % interval, and p the paired bootstrap against the
pipeline's own stack. Train is the mean of the rotations' macro-F1 on train, with the logits that
the stack was fitted on; the generalization gap is train minus the mean of the rotations' test.
"""

from pathlib import Path

import polars as pl

from bench.report import arguments, machine
from ser.corpus.rotations import RotationConfig
from ser.heads.run import HeadReport
from ser.pipeline.file import Pipeline
from ser.stack.rotations import compare_rotations
from ser.stages.cv import plan
from ser.stages.subruns import extract_once, train_subruns


def main() -> None:
    parser = arguments(__doc__ or "")
    parser.add_argument("pipeline", type=Path)
    parser.add_argument("--rotations", type=int, default=5)
    parser.add_argument("--resamples", type=int, default=1000)
    args = parser.parse_args()
    pipeline = Pipeline.load(args.pipeline, ["heads.defaults.epochs=1"] if args.quick else [])
    config = RotationConfig(by="speaker", groups=args.rotations, dev="next")
    [repetition] = plan(pipeline, config)
    runs = dict(list(repetition.runs.items())[:1] if args.quick else repetition.runs.items())
    extract_once(list(runs.values()), "auto", print)
    for report in train_subruns(runs, "auto", 1):
        _print(report)
    folders = [rotation.run for rotation in runs.values()]
    scores = compare_rotations(folders, pipeline.stacked, pipeline.stack, args.resamples)
    print(machine())
    print(f"{args.pipeline}: {len(runs)} rotations, {scores['speakers'][0]} test speakers")
    scores = scores.drop("default", "speakers")
    with pl.Config(
        tbl_rows=-1,
        tbl_cols=-1,
        tbl_width_chars=110,
        float_precision=3,
        tbl_formatting="NOTHING",
        tbl_hide_dataframe_shape=True,
        tbl_hide_column_data_types=True,
    ):
        print(scores)
    if args.json:
        args.json.write_text(scores.write_json())


def _print(report: HeadReport) -> None:
    print(f"{report.name} {report.done} {report.error}", flush=True)


if __name__ == "__main__":
    main()
