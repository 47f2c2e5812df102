import json
import os
import random
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import log_loss
from sklearn.model_selection import StratifiedKFold

import ser.cache.swap
from ser.cache.locks import locked
from ser.cache.logits import HeadLogits, SplitLogits
from ser.corpus.errors import BusyError, Note, UserError
from ser.score.calibration import ece, fit_temperature
from ser.score.config import ScoreConfig
from ser.score.run import score_run
from ser.stack.config import StackConfig
from ser.stack.folds import FoldedClassifier
from ser.stack.model import FittedStack
from ser.stack.record import StackRecord
from ser.stack.run import fit, is_current, predict
from ser.stack.table import LogitTable
from tests.damage import DAMAGES, damage_file, repair

HEADS = ["a", "b"]
FOREST = StackConfig(model="random_forest", folds=2, random_forest={"trees": 5})
BOOSTING = StackConfig(model="lightgbm", folds=2, lightgbm={"rounds": 5, "min_data_in_leaf": 2})
LINEAR = [
    StackConfig(model="extra_trees", folds=2, draws=2, input="both", extra_trees={"trees": 3}),
    StackConfig(model="logistic", folds=2, input="probabilities"),
    StackConfig(model="meta_soup", folds=2, draws=2, calibrate=True, attributes="mean"),
]
CHOSEN = [
    StackConfig(model="mean_proba", calibrate=True),
    StackConfig(model="weighted"),
    StackConfig(model="best_head"),
    StackConfig(model="log_pool", calibrate=True),
    StackConfig(model="mean_scaled"),
    StackConfig(model="greedy", calibrate=True),
    StackConfig(model="weighted", weighted={"by": "macro_f1"}),
    StackConfig(model="top_k", top_k={"k": 1}),
    StackConfig(model="top_k", top_k={"by": "plurality"}),
]
RULES = [StackConfig(model="mean_logits"), StackConfig(model="majority")]


def about(run: Path) -> dict:
    return json.loads((run / "stack" / "stack.json").read_text())


def change(run: Path, head: str, **fields) -> None:
    path = run / "heads" / head / "logits.h5"
    replace(HeadLogits.read(path), **fields).write(path)


def relabel(run: Path, labels: list[int]) -> None:
    """Give the train rows of both heads these labels, and -1 to the rows beyond them."""
    for head in HEADS:
        splits = dict(HeadLogits.read(run / "heads" / head / "logits.h5").splits)
        label = np.array(labels + [-1] * (40 - len(labels)))
        splits["train"] = replace(splits["train"], label=label)
        change(run, head, splits=splits)


def model_of(config: StackConfig) -> str:
    return config.model


EVERY = [FOREST, BOOSTING, *LINEAR, *CHOSEN, *RULES]


@pytest.mark.parametrize("kind", ["in-sample", "out-of-fold"])
@pytest.mark.parametrize("config", EVERY, ids=model_of)
def test_every_model_is_kept_with_attributes_and_without(write_run, config, kind):
    run = write_run(heads=("a", "b", "c"), kind=kind)
    write_run(heads=("b",), kind=kind, attributes=("valence", "arousal"))
    said = fit(run, ["a", "b", "c"], config)
    assert said.protocol == ("oof" if kind == "out-of-fold" else "unicamp")
    assert (said.temperature != 1) == config.calibrate
    saved = pl.read_parquet(run / "stack" / "predictions.parquet")
    assert saved.columns[-2:] == ["predicted.valence", "predicted.arousal"]
    assert predict(run).filter(pl.col("split") != "train").equals(saved)
    first = (run / "stack" / "predictions.parquet").read_bytes()
    fit(run, ["a", "b", "c"], config)
    assert (run / "stack" / "predictions.parquet").read_bytes() == first


def test_heads_of_attributes_alone_are_stacked_without_a_class(write_run):
    run = write_run(attributes=("arousal",))
    for head in HEADS:
        splits = HeadLogits.read(run / "heads" / head / "logits.h5").splits
        none = {s: replace(r, logits=np.empty((len(r.label), 0))) for s, r in splits.items()}
        change(run, head, splits=none)
    said = fit(run, HEADS, StackConfig(attributes="mean"))
    assert said.rows == 0
    found = predict(run)
    assert found.columns == ["utterance", "split", "predicted.arousal"]
    heads = [HeadLogits.read(run / "heads" / h / "logits.h5").splits["dev"] for h in HEADS]
    mean = np.mean([rows.predicted.astype(float) for rows in heads], axis=0)[:, 0]
    dev = found.filter(pl.col("split") == "dev")["predicted.arousal"].to_numpy()
    assert dev == pytest.approx(mean)
    assert score_run(run, ScoreConfig(groups=()), HEADS)["dev"]["stack"].attributes


def test_the_protocol_decides_the_logits_that_are_learned_from_and_asked(write_run):
    run = write_run(kind="out-of-fold", sizes={"train": 300, "dev": 60})
    probability = {}
    for protocol in ("oof", "unicamp"):
        fit(run, HEADS, StackConfig(model="logistic", folds=3, protocol=protocol))
        train = predict(run).filter(pl.col("split") == "train")
        probability[protocol] = train.select("^p\\..*$").to_numpy().max(axis=1).mean()
    assert probability["unicamp"] > probability["oof"] + 0.05


def test_out_of_fold_members_hear_no_speaker_of_their_fold(write_run, monkeypatch):
    from ser.stack.linear import Logistic

    run = write_run(kind="out-of-fold", sizes={"train": 90, "dev": 12}, speakers=9)
    given = []
    monkeypatch.setattr(
        Logistic,
        "fit",
        lambda self, X, y, fit=Logistic.fit: (
            given.append({row.tobytes() for row in X}) or fit(self, X, y)
        ),
    )
    fit(run, HEADS, StackConfig(model="logistic", folds=3, balance=False))
    table = LogitTable.read(run / "heads", HEADS).splits["train"]
    for rows in given:
        seen = np.array([row.tobytes() in rows for row in table.logits])
        speakers = {s for s, known in zip(table.speaker, seen, strict=True) if known}
        assert len(speakers) == 6
        assert seen.sum() == 60


def test_the_temperature_is_of_rows_that_the_members_have_not_seen(write_run):
    run = write_run(sizes={"train": 300, "dev": 301}, kind="out-of-fold")
    config = StackConfig(
        model="lightgbm", folds=3, lightgbm={"rounds": 150, "min_data_in_leaf": 2}, calibrate=True
    )
    table = LogitTable.read(run / "heads", HEADS)
    stack = FittedStack.fit(table, config)
    label, sure = stack.held_out
    assert stack.temperature == pytest.approx(fit_temperature(np.log(sure), label))
    on_train = stack.classifier.predict_proba(table.splits["train"].logits)
    assert fit_temperature(np.log(on_train), table.splits["train"].label) < 1 < stack.temperature


def test_a_calibrated_stack_says_the_same_and_means_what_it_says(write_run, rewrite):
    run = write_run(sizes={"train": 300, "dev": 301}, kind="out-of-fold")
    for head in HEADS:
        rewrite(run, head, lambda logits: 10 * logits)
    fit(run, HEADS, StackConfig(model="mean_logits"))
    plain = predict(run).filter(pl.col("split") == "dev")
    said = fit(run, HEADS, StackConfig(model="mean_logits", calibrate=True))
    mended = predict(run).filter(pl.col("split") == "dev")
    assert said.temperature == pytest.approx(2.5, rel=0.2)  # two heads of 2 / 10 each
    assert mended["prediction"].equals(plain["prediction"])
    label = LogitTable.read(run / "heads", HEADS).splits["dev"].label
    before, after = (f.select("^p\\..*$").to_numpy() for f in (plain, mended))
    assert log_loss(label, after) < log_loss(label, before)
    assert ece(after, label) < ece(before, label)


@pytest.mark.parametrize("config", [FOREST, BOOSTING, *RULES], ids=model_of)
def test_the_saved_stack_predicts_what_the_fitted_one_did(write_run, config):
    run = write_run()
    returned = fit(run, HEADS, config)
    saved = pl.read_parquet(run / "stack" / "predictions.parquet")
    assert predict(run).filter(pl.col("split") != "train").equals(saved)
    assert returned == StackRecord.read(run / "stack" / "stack.json")
    assert saved.columns == ["utterance", "split", "prediction", "p.angry", "p.sad", "p.happy"]
    assert saved["split"].value_counts().sort("split").rows() == [("", 5), ("dev", 12)]
    sums = saved.select(pl.sum_horizontal("^p\\..*$")).to_series().to_list()
    assert sums == pytest.approx([1] * 17)
    assert not list(run.glob(".stack*"))


def test_train_is_predicted_when_asked_for_or_alone(write_run):
    run = write_run()
    fit(run, HEADS, FOREST)
    assert predict(run)["split"].value_counts().sort("split").rows() == [
        ("", 5),
        ("dev", 12),
        ("train", 40),
    ]
    run = write_run(run / "alone", sizes={"train": 40})
    fit(run, HEADS, FOREST)
    assert predict(run).equals(pl.read_parquet(run / "stack" / "predictions.parquet"))


def test_stack_json_says_what_made_it(write_run):
    run = write_run()
    relabel(run, [0] * 20 + [1] * 7 + [2] * 10)
    said = fit(run, HEADS, FOREST)
    assert said.format == "ser-stack/2"
    assert said.heads == {"a": "made-a-0", "b": "made-b-0"}
    assert said.classes == ["angry", "sad", "happy"]
    assert said.rows == 21
    assert said.rows_per_class == {"angry": 7, "sad": 7, "happy": 7}
    assert StackConfig.model_validate(said.config) == FOREST
    said = fit(run, HEADS, FOREST.model_copy(update={"balance": False}))
    assert said.rows_per_class == {"angry": 20, "sad": 7, "happy": 10}
    assert fit(run, HEADS, RULES[0]).rows == 0
    assert [path.name for path in (run / "stack").glob("fold-*")] == []


def test_the_same_call_twice_gives_the_same_numbers(write_run):
    run = write_run()
    fit(run, HEADS, FOREST)
    first = pl.read_parquet(run / "stack" / "predictions.parquet")
    fit(run, HEADS, FOREST)
    assert pl.read_parquet(run / "stack" / "predictions.parquet").equals(first)


def test_heads_may_be_picked(write_run):
    run = write_run(heads=("a", "b", "c"))
    config = FOREST.model_copy(update={"heads": ("c", "a")})
    assert list(fit(run, ["a", "b", "c"], config).heads) == ["c", "a"]
    assert is_current(run, ["a", "b", "c"], config)
    with pytest.raises(UserError) as error:
        fit(run, ["a", "b"], config)
    assert str(error.value) == ("stack.heads: 'c' is not a head of the pipeline; use one of a, b.")
    with pytest.raises(UserError, match="'a' appears twice; name each head once"):
        fit(run, ["a"], FOREST.model_copy(update={"heads": ("a", "a")}))


def test_a_folder_of_other_utterances_is_predicted(write_run, tmp_path):
    run = write_run(tmp_path / "run")
    fit(run, HEADS, FOREST)
    other = write_run(tmp_path / "other")
    for head in HEADS:
        splits = HeadLogits.read(other / "heads" / head / "logits.h5").splits
        change(other, head, splits={"": replace(splits["dev"], label=np.full(12, -1))})
    found = predict(run, other / "heads")
    dev = predict(run).filter(pl.col("split") == "dev")
    assert found["split"].to_list() == [""] * 12
    assert found.drop("split").equals(dev.drop("split"))


def test_logits_of_other_heads_are_not_predicted(write_run):
    run = write_run()
    fit(run, HEADS, FOREST)
    change(run, "b", fingerprint="newer")
    with pytest.raises(UserError) as error:
        predict(run)
    assert str(error.value) == (
        f"{run}/heads/b/logits.h5: head 'b' is not the one that the stack was fitted on (its "
        "fingerprint or its classes differ); run `ser stack fit` again."
    )


def test_it_is_current_until_something_that_decides_changes(write_run):
    run = write_run()
    assert not is_current(run, HEADS, FOREST)
    fit(run, HEADS, FOREST)
    assert is_current(run, HEADS, FOREST)
    assert is_current(run, HEADS, FOREST.model_copy(update={"lightgbm": BOOSTING.lightgbm}))
    assert not is_current(run, HEADS, FOREST.model_copy(update={"folds": 3}))
    assert not is_current(run, ["b", "a"], FOREST)
    assert not is_current(run, ["a"], FOREST)
    change(run, "b", fingerprint="newer")
    assert not is_current(run, HEADS, FOREST)


def test_whether_it_is_current_is_told_by_the_headers_alone(write_run, monkeypatch):
    run = write_run(kind="out-of-fold", attributes=("arousal",))
    fit(run, HEADS, FOREST)
    path = run / "heads" / "a" / "logits.h5"
    whole, header = HeadLogits.read(path), HeadLogits.read_header(path)
    assert replace(header, splits={}) == replace(whole, splits={})
    assert list(header.splits) == list(whole.splits)
    for split, rows in header.splits.items():
        assert rows.utterance == rows.speaker == []
        assert rows.rows == whole.splits[split].rows
        assert (rows.in_sample is None) == (whole.splits[split].in_sample is None)
        assert rows.logits.shape == (0, 3)
        assert rows.predicted.shape == (0, 1)
    monkeypatch.setattr(HeadLogits, "read", None)
    assert is_current(run, HEADS, FOREST)
    path.unlink()
    with pytest.raises(UserError, match="there are no logits; train it"):
        is_current(run, HEADS, FOREST)


def test_a_fit_that_dies_while_saving_leaves_the_old_stack(write_run, monkeypatch):
    run = write_run()
    fit(run, HEADS, FOREST)
    before = {path.name: path.read_bytes() for path in (run / "stack").iterdir()}

    def die(self: FoldedClassifier, folder: Path) -> None:
        self.write_member(self.members_[0], folder / "fold-0.npz")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(FoldedClassifier, "save", die)
        with pytest.raises(KeyboardInterrupt):
            fit(run, HEADS, FOREST.model_copy(update={"seed": 1}))
    assert {path.name: path.read_bytes() for path in (run / "stack").iterdir()} == before
    assert is_current(run, HEADS, FOREST)
    fit(run, HEADS, FOREST.model_copy(update={"seed": 1}))
    assert sorted(path.name for path in run.iterdir()) == ["heads", "stack"]


@pytest.mark.parametrize("dies_at", ["stack", ".part"])
def test_a_fit_that_dies_while_swapping_where_names_cannot_be_exchanged_keeps_the_old_stack(
    write_run, monkeypatch, dies_at
):
    run = write_run()
    fit(run, HEADS, FOREST)
    rename = Path.rename

    def die(self: Path, target: Path) -> Path:
        if self.is_dir() and self.name.endswith(dies_at):
            raise KeyboardInterrupt
        return rename(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", die)
        patch.setattr(ser.cache.swap, "exchange", lambda one, other: False)
        with pytest.raises(KeyboardInterrupt):
            fit(run, HEADS, RULES[0])
    assert is_current(run, HEADS, FOREST)
    fit(run, HEADS, RULES[0])
    assert is_current(run, HEADS, RULES[0])
    assert sorted(path.name for path in run.iterdir()) == ["heads", "stack"]


@pytest.mark.parametrize("config", [FOREST, BOOSTING])
def test_any_damage_to_a_file_is_told_and_the_next_fit_mends_it(write_run, config):
    run, rng = write_run(), random.Random(5)
    fit(run, HEADS, config)
    whole = {path: path.read_bytes() for path in (run / "stack").iterdir()}
    for path, content in whole.items():
        for damage in DAMAGES:
            damage_file(path, damage, rng)
            assert not is_current(run, HEADS, config)
            reads = score_run if path.name == "predictions.parquet" else predict
            arguments = (run, ScoreConfig(), HEADS) if reads is score_run else (run,)
            with pytest.raises(UserError, match=r"fit (it|the stack again) with `ser stack fit`"):
                reads(*arguments)
            repair(path, content)
    assert is_current(run, HEADS, config)
    for path in whole:
        damage_file(path, rng.choice(DAMAGES), rng)
    fit(run, HEADS, config)
    assert is_current(run, HEADS, config)
    assert set((run / "stack").iterdir()) == set(whole)
    predictions = run / "stack" / "predictions.parquet"  # a forest's file differs each time
    assert predictions.read_bytes() == whole[predictions]


def test_a_stack_of_an_older_version_has_no_checksums_and_is_still_read(write_run):
    run = write_run()
    fit(run, HEADS, FOREST)
    before = predict(run)
    path = run / "stack" / "stack.json"
    old = {k: v for k, v in about(run).items() if k not in ("checksums", "crc32c")}
    path.write_text(json.dumps(old))
    with pytest.warns(Note, match="older version of ser"):
        assert is_current(run, HEADS, FOREST)
    assert predict(run).equals(before)


@pytest.mark.parametrize(
    "changes", [{"classes": ["happy", "sad", "angry"]}, {"offsets": [0.5, 0.5]}]
)
def test_a_stack_that_prediction_refuses_is_not_up_to_date(write_run, changes):
    run = write_run()
    record = fit(run, HEADS, RULES[0])
    record.model_copy(update=changes).write(run / "stack" / "stack.json")
    with pytest.raises(UserError):
        predict(run)
    assert not is_current(run, HEADS, RULES[0])


def test_two_processes_do_not_fit_one_stack(write_run):
    run = write_run()
    with locked(run / ".stack.lock", ""), pytest.raises(BusyError) as error:
        fit(run, HEADS, RULES[0])
    assert str(error.value).startswith(f"{run}: the stack is being fitted by process {os.getpid()}")


def test_a_missing_or_foreign_stack(write_run):
    run = write_run()
    with pytest.raises(UserError) as error:
        predict(run)
    path = run / "stack" / "stack.json"
    assert str(error.value) == f"{path}: there is no stack; fit it with `ser stack fit`."
    fit(run, HEADS, RULES[0])
    older = {k: v for k, v in about(run).items() if k not in ("checksums", "crc32c")}
    path.write_text(json.dumps(older | {"format": "ser-stack/9"}))
    with pytest.raises(UserError) as error:
        predict(run)
    assert str(error.value) == (
        f"{path}: the format is 'ser-stack/9', not 'ser-stack/2'; fit the stack again with "
        "`ser stack fit`."
    )


INSTEAD = "set stack.model to mean_logits or majority, which need no training."


def refusal(run: Path, config: StackConfig = FOREST) -> str:
    with pytest.raises(UserError) as error:
        fit(run, HEADS, config)
    for rule in RULES:
        fit(run, HEADS, rule)  # a rule needs no training row
    return str(error.value)


@pytest.mark.parametrize("without", ["rows", "labels"])
def test_nothing_to_learn_from(write_run, without):
    run = write_run()
    relabel(run, [])
    if without == "rows":
        for head in HEADS:
            splits = HeadLogits.read(run / "heads" / head / "logits.h5").splits
            change(run, head, splits={"dev": splits["dev"]})
    assert refusal(run) == (
        f"{run}/heads: the logits have no labelled rows in the split train to fit a "
        f"random_forest on; train the heads on a manifest that has some, or {INSTEAD}"
    )


def test_a_class_that_is_missing_from_train(write_run):
    run = write_run()
    relabel(run, [0] * 20 + [2] * 20)
    assert refusal(run, BOOSTING) == (
        f"{run}/heads: train has no rows of the class 'sad'; add some, remove it "
        f"from corpus.classes, or {INSTEAD}"
    )


def test_the_mean_on_one_scale_needs_no_row_of_every_class(write_run):
    run, config = write_run(), StackConfig(model="mean_scaled")
    weights = []
    for labels in ([0, 1, 2, 0] * 10, [0, 2] * 20):
        relabel(run, labels)
        fit(run, HEADS, config)
        weights.append((run / "stack" / "rule.json").read_text())
    assert weights[0] == weights[1]
    for option in ("calibrate", "offsets"):
        refused = refusal(run, config.model_copy(update={option: True}))
        assert "train has no rows of the class 'sad'" in refused


def test_what_is_chosen_by_dev_needs_every_class_there(write_run):
    run = write_run()
    for head in HEADS:
        splits = dict(HeadLogits.read(run / "heads" / head / "logits.h5").splits)
        label = np.where(splits["dev"].label == 1, 0, splits["dev"].label)
        change(run, head, splits=splits | {"dev": replace(splits["dev"], label=label)})
    for config in CHOSEN[6:]:
        assert refusal(run, config) == (
            f"{run}/heads: dev has no rows of the class 'sad'; add some, remove it "
            f"from corpus.classes, or {INSTEAD}"
        )
    for head in HEADS:
        splits = dict(HeadLogits.read(run / "heads" / head / "logits.h5").splits)
        change(run, head, splits={"train": splits["train"]})
    assert refusal(run, CHOSEN[-1]) == (
        f"{run}/heads: the logits have no labelled rows in the split dev to select a top_k on; "
        f"train the heads on a manifest that has some, or {INSTEAD}"
    )


def test_fewer_speakers_than_folds_and_a_class_of_one_fold_alone(write_run):
    run = write_run(kind="out-of-fold")
    config = StackConfig(model="logistic", balance=False)
    relabel(run, [0, 2] * 20)
    assert "train has no rows of the class 'sad'" in refusal(run, config)
    relabel(run, [1 if i % 4 == 0 else i // 4 % 2 * 2 for i in range(40)])
    assert "there are only 4 speakers" in refusal(run, config)
    assert refusal(run, config.model_copy(update={"folds": 3})) == (
        f"{run}/heads: without the speakers of one fold, no row of the class 'sad' is left for "
        "training; lower stack.folds, set stack.balance: false, or set stack.protocol: unicamp."
    )


def test_ridge_needs_ratings_of_train(write_run):
    run = write_run(attributes=("arousal",))
    for head in HEADS:
        splits = dict(HeadLogits.read(run / "heads" / head / "logits.h5").splits)
        train = replace(splits["train"], truth=np.full((40, 1), np.nan))
        change(run, head, splits=splits | {"train": train})
    with pytest.raises(UserError) as error:
        fit(run, HEADS, RULES[0])
    assert str(error.value) == (
        f"{run}/heads: the ridge regression needs arousal of training rows, and none has it; set "
        "stack.attributes: mean."
    )


def test_fewer_rows_than_folds(write_run):
    run = write_run()
    relabel(run, [0] * 20 + [1] * 17 + [2] * 3)
    assert refusal(run, StackConfig(model="random_forest")) == (
        f"{run}/heads: train has 3 rows of the class 'happy', fewer than the 5 folds; lower "
        f"stack.folds (at least 2), or {INSTEAD}"
    )


@pytest.mark.slow
def test_neither_import_nor_fit_nor_predict_brings_torch(write_run):
    run = write_run()
    configs = [c.model_dump_json() for c in (FOREST, BOOSTING, LINEAR[2], CHOSEN[1])]
    code = (
        "import sys, pathlib, ser.stack.run, ser.score.run\n"
        "from ser.stack.config import StackConfig\n"
        "heavy = {'torch', 'sklearn', 'lightgbm', 'skops', 'rich.table'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
        "import ser.stack.compare, ser.stack.ablate\n"
        "run, configs = pathlib.Path(sys.argv[1]), sys.argv[2:]\n"
        "for config in map(StackConfig.model_validate_json, configs):\n"
        "    ser.stack.run.fit(run, ['a', 'b'], config)\n"
        "    ser.stack.run.predict(run)\n"
        "    assert 'torch' not in sys.modules, config\n"
        "first = StackConfig.model_validate_json(configs[0])\n"
        "ser.stack.compare.compare(run / 'heads', ['a', 'b'], first, 2)\n"  # of every model
        "ser.stack.ablate.ablate(run / 'heads', ['a', 'b'], first, 2)\n"
        "assert 'torch' not in sys.modules\n"
    )
    command = [sys.executable, "-c", code, str(run), *configs]
    subprocess.run(command, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"})


def votes_as_head(kind: int, frame: pl.DataFrame) -> HeadLogits:
    """Make a head of CREMA-D's raters: log vote shares of voice (1) or face (2) alone."""
    frame = frame.filter(pl.col("") // 100_000 == kind).sort("fileName")
    emotions = ["A", "D", "F", "H", "N", "S"]
    actor = frame["fileName"].str.slice(0, 4).cast(pl.Int64).to_numpy()
    truth = frame["fileName"].str.split("_").list.get(2).str.slice(0, 1).to_list()
    logits = np.log(frame.select(emotions).to_numpy() + 0.5)
    splits = {}
    for split, rows in (("train", actor < 1061), ("dev", actor >= 1061)):
        at = np.flatnonzero(rows)
        splits[split] = SplitLogits(
            utterance=[frame["fileName"][int(i)] for i in at],
            logits=logits[at],
            label=np.array([emotions.index(truth[i]) for i in at]),
            speaker=[str(a) for a in actor[at]],
            fold=np.full(len(at), -1),
            rows="held-out",
        )
    return HeadLogits(str(kind), tuple(emotions), f"votes-{kind}", {}, splits)


@pytest.mark.slow
@pytest.mark.skipif(not os.environ.get("SER_SHARED"), reason="SER_SHARED is not set")
def test_on_real_raters_the_stack_beats_the_best_of_its_heads(tmp_path):
    table = Path(os.environ["SER_SHARED"]) / "corpora" / "crema_d_tabulatedVotes.csv"
    frame = pl.read_csv(table, null_values="NA")
    both = frame.filter(pl.col("").floordiv(100_000) < 3).group_by("fileName").len()
    both = both.filter(pl.col("len") == 2)["fileName"]
    frame = frame.filter(pl.col("fileName").is_in(both.implode()))
    for kind, name in ((1, "voice"), (2, "face")):
        votes_as_head(kind, frame).write(tmp_path / "heads" / name / "logits.h5")
    fit(tmp_path, ["voice", "face"], StackConfig())
    dev = score_run(tmp_path, ScoreConfig(), ["voice", "face"])["dev"]
    voice, face, stack = (dev[name].score("macro_f1") for name in ("voice", "face", "stack"))
    assert voice < face < stack - 0.03


@pytest.mark.slow
@pytest.mark.parametrize("per_class", [40, 280])
def test_unicamp_with_twelve_heads_equals_the_published_recipe(tmp_path, per_class):
    rng = np.random.default_rng(0)
    label = rng.permutation(np.repeat(np.arange(8), per_class))  # 280: a quarter of the paper's
    heads = [str(i) for i in range(12)]
    splits = {"train": label, "dev": rng.integers(0, 8, 500)}
    logits = {s: rng.normal(size=(len(y), 96)).astype(np.float32) for s, y in splits.items()}
    for i, name in enumerate(heads):
        rows = {
            s: SplitLogits(
                utterance=[f"{s}{k}" for k in range(len(y))],
                logits=logits[s][:, 8 * i : 8 * i + 8],
                label=y,
                speaker=[""] * len(y),
                fold=np.full(len(y), -1),
                rows="in-sample" if s == "train" else "held-out",
            )
            for s, y in splits.items()
        }
        head = HeadLogits(name, tuple("ASHUFDCN"), name, {}, rows)
        head.write(tmp_path / "heads" / name / "logits.h5")
    fit(tmp_path, heads, StackConfig(model="random_forest", protocol="unicamp"))
    found = predict(tmp_path)

    X, y = logits["train"], label
    forests = []
    for rows, _ in StratifiedKFold(5, shuffle=True, random_state=42).split(X, y):
        forest = RandomForestClassifier(
            n_estimators=200,
            max_depth=8,
            min_samples_leaf=10,
            min_samples_split=10,
            random_state=42,
            n_jobs=-1,  # changes no tree
        )
        forests.append(forest.fit(X[rows], y[rows]).set_params(n_jobs=1))
    for split, asked in logits.items():
        published = np.mean([forest.predict_proba(asked) for forest in forests], axis=0)
        ours = found.filter(pl.col("split") == split)
        assert np.array_equal(ours.select("^p\\..*$").to_numpy(), published)
        assert ours["prediction"].to_list() == ["ASHUFDCN"[i] for i in published.argmax(axis=1)]
