"""Meta-models of a user's: fitted, kept and read back; mistakes name the class and the remedy."""

import numpy as np
import pytest
from pydantic import Field, ValidationError
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier

from ser.corpus.config import Section
from ser.corpus.errors import UserError
from ser.stack.compare import compare
from ser.stack.config import StackConfig
from ser.stack.folds import FoldedClassifier
from ser.stack.record import StackRecord
from ser.stack.registry import META_MODELS, meta_model
from ser.stack.run import fit, is_current, predict

HEADS = ["a", "b"]


class NearestOptions(Section):
    neighbours: int = Field(default=3, ge=1)


@pytest.fixture
def register():
    """Register meta-models for a test."""
    before = set(META_MODELS.names())
    yield lambda name, make, options=Section: meta_model(name, options)(make)
    for name in set(META_MODELS.names()) - before:
        META_MODELS.remove(name)


def nearest(options):
    return KNeighborsClassifier(options.neighbours)


def test_a_classifier_is_fitted_kept_and_read_back(write_run, register):
    register("nearest", nearest, NearestOptions)
    run, config = write_run(), StackConfig(model="nearest", folds=2, options={"neighbours": 2})
    record = fit(run, HEADS, config)
    assert config.learns_from == "train"
    assert record.config["options"] == {"neighbours": 2}
    assert {"fold-0.skops", "fold-1.skops"} <= set(record.checksums)
    assert predict(run).equals(predict(run))
    assert is_current(run, HEADS, StackRecord.read(run / "stack/stack.json").stack_config(run))
    assert not is_current(run, HEADS, StackConfig(model="nearest", folds=2))
    assert is_current(run, HEADS, config.model_copy(update={"draws": None}))


def test_a_built_in_model_writes_no_options(write_run):
    record = fit(write_run(), HEADS, StackConfig(model="logistic", folds=2))
    assert "options" not in record.config


def test_a_classifier_gets_the_seed_of_its_member(write_run, register):
    register("network", lambda options: MLPClassifier((4,), max_iter=20))
    config = StackConfig(model="network", folds=2)
    first, second = (write_run(write_run() / name) for name in "xy")
    with pytest.warns(UserWarning):  # twenty iterations do not converge
        fit(first, HEADS, config)
        fit(second, HEADS, config)
    assert predict(first).equals(predict(second))


def test_a_configured_one_is_compared_with_the_others(write_run, register):
    register("nearest", nearest, NearestOptions)
    run = write_run(sizes={"train": 40, "dev": 20})
    config = StackConfig(
        model="nearest",
        folds=2,
        random_forest={"trees": 3},
        extra_trees={"trees": 3},
        lightgbm={"rounds": 3, "min_data_in_leaf": 2},
    )
    frame, _ = compare(run / "heads", HEADS, config, 20)
    assert frame.filter("default")["model"].to_list() == ["nearest"]


def test_one_that_derives_from_the_base_class_writes_its_own_files(write_run, register):
    class Means(FoldedClassifier):
        """The class whose mean logits are nearest."""

        suffix = ".npy"

        def __init__(self, *, folds, balance, seed, power, draws=1, input="logits", extra=0):
            self.folds, self.balance, self.draws, self.seed = folds, balance, draws, seed
            self.input, self.extra, self.power = input, extra, power

        def fit_member(self, X, y, seed):
            return np.stack([X[y == c].mean(axis=0) for c in range(len(self.classes_))])

        def predict_member(self, member, X):
            near = 1 / np.square(X[:, None] - member).sum(axis=2) ** self.power
            return near / near.sum(axis=1, keepdims=True)

        def write_member(self, member, path):
            np.save(path, member)

        def read_member(self, path, classes, dim):
            return np.load(path)

    class MeansOptions(Section):
        power: float = 1.0

    register("means", Means, MeansOptions)
    run = write_run()
    record = fit(run, HEADS, StackConfig(model="means", folds=2))
    assert "fold-1.npy" in record.checksums
    assert predict(run).height == 57


class Rows:
    """A classifier whose every row of probabilities is the same."""

    def __init__(self, row):
        self.row = row

    def fit(self, X, y):
        return self

    def predict_proba(self, X):
        return np.tile(self.row, (len(X), 1))


class Mute:
    def fit(self, X, y):
        return self


class Broken(Rows):
    def __init__(self):
        super().__init__([1, 0, 0])

    def fit(self, X, y):
        raise KeyError("rows")


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        (
            lambda _: Mute(),
            "Mute): it has no method predict_proba; give a classifier that has one, for example by "
            "wrapping it in sklearn.calibration.CalibratedClassifierCV.",
        ),
        (lambda _: Broken(), "Broken): its fit failed (KeyError: 'rows'); correct it."),
        (lambda _: None, "<lambda>) returned nothing; add a return."),
        (
            lambda _: Mute,
            f"<lambda>) returned the class {__name__}.Mute; return an instance of it.",
        ),
        (
            lambda _: Rows([0.5, 0.5, 0.5]),
            "Rows): predict_proba returned the row [0.5, 0.5, 0.5]; a row must sum to 1, none "
            "below 0.",
        ),
        (
            lambda _: Rows([1.5, -0.5, 0]),
            "Rows): predict_proba returned the row [1.5, -0.5, 0]; a row must sum to 1, none "
            "below 0.",
        ),
        (
            lambda _: Rows([np.nan, 0, 1]),
            "Rows): predict_proba returned the row [nan, 0, 1]; a row must sum to 1, none below 0.",
        ),
        (
            lambda _: Rows([0.5, 0.5]),
            "Rows): predict_proba returned (12, 2), not (rows, classes) (12, 3); return a column "
            "for each class.",
        ),
    ],
)
def test_mistakes_name_the_class_and_the_remedy(write_run, register, make, problem):
    register("wrong", make)
    with pytest.raises(UserError) as error:
        fit(write_run(), HEADS, StackConfig(model="wrong", folds=2))
    assert str(error.value) == f"the meta-model 'wrong' ({__name__}.{problem}"


def test_a_file_of_foreign_types_is_refused(write_run, register):
    from fractions import Fraction

    def make(options):
        model = KNeighborsClassifier()
        model.note = Fraction(1, 2)
        return model

    register("foreign", make)
    run = write_run()
    fit(run, HEADS, StackConfig(model="foreign", folds=2))
    with pytest.raises(UserError, match=r"types from packages other than scikit-learn .*fractions"):
        predict(run)


@pytest.mark.parametrize(
    ("section", "problem"),
    [
        ({"model": "svm"}, "the meta-model 'svm' is unknown; choose from auto"),
        ({"model": "majorty"}, "the meta-model 'majorty' is unknown; did you mean 'majority'?"),
        ({"model": "logistic", "options": {}}, "options of logistic are keys of their own section"),
        ({"model": "nearest", "options": {"neighbours": 0}}, "NearestOptions.neighbours"),
        ({"model": "nearest", "options": {"k": 1}}, "NearestOptions.k"),
    ],
)
def test_what_is_wrong_in_the_section(register, section, problem):
    register("nearest", nearest, NearestOptions)
    with pytest.raises(ValidationError) as error:
        StackConfig(**section)
    assert problem in str(error.value)


def test_options_that_are_not_a_section_are_refused():
    with pytest.raises(UserError) as error:
        meta_model("nearest", dict)(nearest)
    assert str(error.value) == (
        "meta-model 'nearest': its options (builtins.dict) are not a subclass of Section; derive "
        "them from ser.corpus.config.Section."
    )
