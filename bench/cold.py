"""CPU seconds of commands in fresh processes, whose files are in the page cache.

    python -m bench.cold [--run runs/demo] [--clip clip.wav]

help        `ser --help`
predict     `ser predict clip --out x.csv` with the model on the shelf: Whisper tiny.en, all layers
again       the same call, when x.csv has the clip
run         `ser predict clip --run RUN`, where one is given
stack       `ser stack fit` on 240 rows and five heads: a random forest and `log_pool`
torch       `python -c "import torch"`, which every prediction has to pay

All are measured in turn, with one thread. The ratios are to `torch`, in the same round: CPU seconds
move with the machine, and ratios less. `--before CHECKOUT` measures the commands of another version
beside this one's.
"""

import os
import sys
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path

from bench.processes import PROGRAM, measured
from bench.report import Row, Target, arguments, median_row, show, temporary_folder
from bench.stack import fit_words, write_run

TORCH = "import torch"
AIMS = {
    "ser --help": 0.6,
    "ser predict": 4.0,
    "ser predict, all done": 4.0,
    "ser predict --run": 5.0,
    "ser stack fit, random_forest": 3.0,
    "ser stack fit, log_pool": 3.0,
}  # CPU seconds
MODELS = ("random_forest", "log_pool")
TRAIN, SIZES = (28,) * 6, {"dev": 36, "test": 36}  # utterances of each class, and of a split


def main() -> None:
    parser = arguments(__doc__ or "")
    example = Path(str(files("ser.serve") / "example.ogg"))
    parser.add_argument("--clip", type=Path, default=example, help="default: the page's example")
    parser.add_argument("--run", type=Path, help="a run or bundle to predict with")
    parser.add_argument("--before", type=Path, help="a checkout of the version to compare with")
    args = parser.parse_args()
    rounds = 1 if args.quick else 5
    versions = {"": Path.cwd()} | ({" (before)": args.before} if args.before else {})
    with temporary_folder(args) as folder:
        write_run(folder, 200, train=TRAIN, sizes=SIZES, heads=5, kind="out-of-fold")
        rows = cold_rows(commands(folder, args.clip, args.run), versions, rounds, folder)
    aimed = [row for row in rows if row.name in AIMS]
    targets = [Target(row.name, row.value, "≤", AIMS[row.name], "CPU s") for row in aimed]
    note = f"{rounds} rounds, medians; {args.clip.name}, 1 thread"
    show(args, {"Cold": rows}, note, targets=targets)


def commands(folder: Path, clip: Path, run: Path | None = None) -> dict[str, list[str]]:
    """Return the commands by name, in the order in which they are measured.

    `folder` has a run of `write_run`; `clip` and `run` are what is predicted, and with what.
    """
    predict = [PROGRAM, "predict", str(clip.resolve()), "--device", "cpu"]
    resumed = [*predict, "--out", str((folder / "x.csv").resolve())]
    pipeline = ["--pipeline", str((folder / "pipeline.yaml").resolve())]
    return {
        TORCH: [sys.executable, "-c", TORCH],
        "ser --help": [PROGRAM, "--help"],
        "ser predict": resumed,
        "ser predict, all done": resumed,
        **({"ser predict --run": [*predict, "--run", str(run.resolve())]} if run else {}),
        **{f"ser stack fit, {m}": [PROGRAM, *fit_words(m), *pipeline] for m in MODELS},
    }


def cold_rows(
    calls: Mapping[str, Sequence[str]], versions: Mapping[str, Path], rounds: int, folder: Path
) -> list[Row]:
    """Run every command of every version in turn; return CPU seconds and the ratio to `torch`.

    `versions` are checkouts by what is written behind the names of their rows. x.csv of `folder` is
    deleted before each round, so that the first call predicts, and the second finds all done.
    """
    os.environ["OMP_NUM_THREADS"] = "1"
    seconds: dict[str, list[float]] = {}
    for _ in range(rounds):
        for version, checkout in versions.items():
            (folder / "x.csv").unlink(missing_ok=True)
            for name, command in calls.items():
                cost, _ = measured(command, checkout)
                seconds.setdefault(f"{name}{version}", []).append(cost.cpu)
    rows = []
    for name, taken in seconds.items():
        ratios = [own / torch for own, torch in zip(taken, seconds[TORCH], strict=True)]
        rows += [median_row(name, taken, "CPU s"), median_row(f"{name}: by {TORCH}", ratios, "x")]
    return rows


if __name__ == "__main__":
    main()
