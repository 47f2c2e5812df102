import pytest
from pydantic import ValidationError

from stack.config import StackConfig


def test_the_defaults_are_the_published_ones():
    config = StackConfig()
    assert config.model == "random_forest"
    assert (config.folds, config.balance, config.seed) == (5, True, 42)
    assert config.random_forest.model_dump() == {
        "trees": 200,
        "max_depth": 8,
        "min_samples_leaf": 10,
        "min_samples_split": 10,
    }


def test_an_option_of_another_model_decides_nothing():
    forest = StackConfig().decisive()
    assert StackConfig(lightgbm={"rounds": 7}).decisive() == forest
    assert StackConfig(random_forest={"trees": 7}).decisive() != forest
    assert StackConfig(folds=4).decisive() != forest
    assert StackConfig(model="majority", folds=4).decisive() == {"model": "majority"}


@pytest.mark.parametrize(
    "bad", [{"trees": 5}, {"folds": 1}, {"heads": ()}, {"model": "svm"}, {"seed": -1}]
)
def test_what_is_not_an_option_is_refused(bad):
    with pytest.raises(ValidationError):
        StackConfig(**bad)
