"""`ser stack fit` at the paper's scale, and the published recipe over the same logits.

published   the logits in memory; StratifiedKFold, five random forests, and the mean of their five
            predict_proba on dev and test; scikit-learn with n_jobs=1, as published, and with all
            cores. Timed in a fresh process, from the first fit on: importing, reading and
            balancing are not timed, nothing is saved.
ours        the whole command in a fresh process, its files dropped from the page cache: reading and
            checking twelve logits.h5, balancing, the same five forests, predicting dev and test,
            and writing the models and all probabilities. Both sides must predict the same, to the
            last bit.

66,977 train utterances with the class counts of MSP-Podcast (8,960 after balancing), 25,258 of dev
and 3,200 of test, 12 heads, 8 classes, logits that carry some information on the label.

commands    `stack fit` of two other models, `stack compare` and `score` at the same scale.

`--before CHECKOUT` measures the commands of another version beside this one's, in turn.

`bench.cold` has the cost of a fit on few rows. Wall times mean nothing on a machine that does other
work; CPU seconds are given beside them.
"""

import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import polars as pl

from bench.processes import PROGRAM, Cost, measured
from bench.report import Row, Target, arguments, drop, median_row, show, temporary_folder
from ser.cache.logits import HeadLogits, SplitLogits

CLASSES = ("angry", "contempt", "disgust", "fear", "happy", "neutral", "sad", "surprise")
TRAIN = (6728, 2495, 1432, 1120, 16712, 29239, 6303, 2948)
SIZES = {"dev": 25_258, "test": 3_200}
HEADS = 12
ALLOWED = 1.5  # seconds that the command may take beside the bare fit
ONE, ALL, OURS = "published, n_jobs=1", "published, all cores", "ser stack fit"
PARTS = ("paper", "commands")


def main() -> None:
    parser = arguments(__doc__ or "")
    parser.add_argument("--rounds", type=int, help="default 3, --quick 1")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS[:1])
    parser.add_argument("--before", type=Path, help="a checkout of the version to compare with")
    args = parser.parse_args()
    trees, rounds = (20, 1) if args.quick else (200, 3)
    rounds = args.rounds or rounds
    versions = {"": Path.cwd()} | ({" (before)": args.before} if args.before else {})
    sections: dict[str, list[Row]] = {}
    targets: list[Target] = []
    scale = f"{HEADS} heads, {sum(TRAIN):,} train utterances, 5 x {trees} trees"
    with temporary_folder(args) as root:
        write_run(root, trees)
        if "paper" in args.parts:
            sections[scale], targets = _paper(root, trees, rounds, versions)
        if "commands" in args.parts:
            sections[f"commands, {scale}"] = _commands(root, versions)
    note = f"{rounds} rounds, medians; both sides predict the same"
    show(args, sections, note, targets=targets)


def write_run(
    root: Path,
    trees: int,
    *,
    train: Sequence[int] = TRAIN,
    sizes: Mapping[str, int] = SIZES,
    heads: int = HEADS,
    kind: Literal["in-sample", "out-of-fold"] = "in-sample",
) -> None:
    """Write a pipeline with its heads' logits, and the same logits as the recipe wants them.

    `train` is the number of rows of each class, `kind` what its logits are.
    """
    rng = np.random.default_rng(0)
    count, classes = len(train), CLASSES[: len(train)]
    labels = {"train": rng.permutation(np.repeat(np.arange(count), train))}
    labels |= {split: rng.integers(0, count, n) for split, n in sizes.items()}
    names = [f"head-{i:02}" for i in range(heads)]
    blocks: dict[str, list[np.ndarray]] = {split: [] for split in labels}
    for name in names:
        splits = {}
        for split, y in labels.items():
            clean = 0.5 * np.eye(count, dtype=np.float32)[y]
            noisy = clean + rng.standard_normal((len(y), count), np.float32)
            blocks[split].append(noisy)
            splits[split] = SplitLogits(
                utterance=[f"MSP-PODCAST_{split}_{i:06}.wav" for i in range(len(y))],
                logits=noisy,
                label=y.astype(np.int8),
                speaker=[f"{split}-{i % 1_500}" for i in range(len(y))],
                fold=np.full(len(y), -1, np.int8),
                rows=kind if split == "train" else "held-out",
            )
        head = HeadLogits(name, classes, f"made {name}", {}, splits)
        head.write(root / "run" / "heads" / name / "logits.h5")
    arrays = {split: np.concatenate(block, axis=1) for split, block in blocks.items()}
    for name, array in {"label": labels["train"], **arrays}.items():
        np.save(root / f"{name}.npy", array)
    section = "\n".join(f"  {name}: {{features: [prosody]}}" for name in names)
    (root / "pipeline.yaml").write_text(
        f"corpus: {{manifest: m.csv, classes: [{', '.join(classes)}]}}\ncache: cache\nrun: run\n"
        f"features: {{prosody: {{kind: prosody}}}}\nheads:\n{section}\n"
        f"stack: {{protocol: {'unicamp' if kind == 'in-sample' else 'oof'}, "
        f"random_forest: {{trees: {trees}}}}}\n"
    )


def recipe(root: Path, trees: int, jobs: int) -> None:
    """Do what the published notebook does; print wall and CPU of the fits, and the wall time."""
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.model_selection import StratifiedKFold

    from ser.stack.folds import balanced_rows

    label = np.load(root / "label.npy")
    rows = balanced_rows(label, 42)
    X, y = np.load(root / "train.npy")[rows], label[rows]
    inputs = {split: np.load(root / f"{split}.npy") for split in SIZES}
    folds = list(StratifiedKFold(5, shuffle=True, random_state=42).split(X, y))
    started, cpu = time.perf_counter(), time.process_time()
    forests = [
        RandomForestClassifier(
            n_estimators=trees,
            max_depth=8,
            min_samples_leaf=10,
            min_samples_split=10,
            random_state=42,
            n_jobs=jobs,
        ).fit(X[train], y[train])
        for train, _ in folds
    ]
    fitted, cpu = time.perf_counter() - started, time.process_time() - cpu
    for forest in forests if jobs == 1 else ():
        forest.set_params(n_jobs=1)
    probabilities = {
        s: np.mean([f.predict_proba(X) for f in forests], axis=0) for s, X in inputs.items()
    }
    print(fitted, cpu, time.perf_counter() - started)
    if jobs == 1:  # of several threads, the sum over trees depends on which finishes first
        for split, probability in probabilities.items():
            np.save(root / f"published-{split}.npy", probability)


def _published(root: Path, trees: int, jobs: int) -> Cost:
    call = f"bench.stack.recipe(pathlib.Path({str(root)!r}), {trees}, {jobs})"
    code = f"import bench.stack, pathlib; {call}"
    cost, printed = measured([sys.executable, "-c", code])
    fit, cpu, wall = map(float, printed.split())
    return Cost(wall, cost.cpu, cost.gb, fit, cpu)


def _paper(
    root: Path, trees: int, rounds: int, versions: Mapping[str, Path]
) -> tuple[list[Row], list[Target]]:
    costs: dict[str, list[Cost]] = {ONE: [], ALL: [], **{OURS + v: [] for v in versions}}
    for _ in range(rounds):
        costs[ONE].append(_published(root, trees, 1))
        costs[ALL].append(_published(root, trees, -1))
        for version, checkout in versions.items():
            costs[OURS + version].append(_ser(root, checkout, *fit_words("random_forest")))
            _check(root)
    beside = [o.wall - p.fit for o, p in zip(costs[OURS], costs[ALL], strict=True)]
    single = [p.fit / o.wall for o, p in zip(costs[OURS], costs[ONE], strict=True)]
    return _rows(costs), [
        Target("command - bare fit, all cores", statistics.median(beside), "≤", ALLOWED, "s"),
        Target("bare fit, n_jobs=1 / command", statistics.median(single), "≥", 1, "x"),
    ]


def fit_words(model: str) -> tuple[str, ...]:
    """Return the words of `ser stack fit` with a model, whatever was fitted before."""
    return "stack", "fit", "--force", "--set", f"stack.model={model}"


def _ser(root: Path, checkout: Path, *words: str) -> Cost:
    """Run a command of the version in `checkout`, its files dropped from the page cache."""
    drop(root / "run")
    return measured([PROGRAM, *words], checkout, root)[0]


def _commands(root: Path, versions: Mapping[str, Path]) -> list[Row]:
    """Measure each of the other commands once, of every version in turn."""
    calls = [fit_words("logistic"), ("stack", "compare"), fit_words("mean_logits"), ("score",)]
    rows = []
    for words in calls:
        for version, checkout in versions.items():
            cost = _ser(root, checkout, *words)
            name = " ".join(word for word in words if not word.startswith("--")) + version
            rows += [Row(name, cost.cpu, "CPU s"), Row(f"{name}: most memory", cost.gb, "GB")]
    return rows


def _check(root: Path) -> None:
    predictions = pl.read_parquet(root / "run" / "stack" / "predictions.parquet")
    for split in SIZES:
        ours = predictions.filter(pl.col("split") == split).select("^p\\..*$").to_numpy()
        if not np.array_equal(ours, np.load(root / f"published-{split}.npy")):
            raise RuntimeError(f"the two sides predict different probabilities for {split}")


def _rows(costs: dict[str, list[Cost]]) -> list[Row]:
    rows = []
    for name, taken in costs.items():
        walls = [cost.wall for cost in taken]
        ratios = [one.wall / own.wall for one, own in zip(costs[ONE], taken, strict=True)]
        cpu = statistics.median(cost.cpu for cost in taken)
        figures = {"ratio_to": ONE, "ratio": statistics.median(ratios), "cpu": cpu}
        if name.startswith(OURS):
            beside = [own.cpu - one.fit_cpu for one, own in zip(costs[ONE], taken, strict=True)]
            rows.append(median_row(f"{name}: beside the bare fit", beside, "CPU s"))
            rows.append(median_row(f"{name}: whole command", walls, "s", **figures))
        else:
            rows.append(median_row(f"{name}: fit + dev, test", walls, "s", **figures))
            fit_cpu = statistics.median(cost.fit_cpu for cost in taken)
            fits = [cost.fit for cost in taken]
            rows.append(median_row(f"{name}: bare fit", fits, "s", cpu=fit_cpu))
        rows.append(median_row(f"{name}: most memory", [cost.gb for cost in taken], "GB"))
    return rows


if __name__ == "__main__":
    main()
