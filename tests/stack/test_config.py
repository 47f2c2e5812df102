import re
from pathlib import Path

import pytest
import yaml
from pydantic import ValidationError

from ser.stack.config import StackConfig


def test_the_defaults_are_the_published_ones():
    config = StackConfig()
    assert (config.model, config.offsets) == ("auto", False)
    assert (config.folds, config.balance, config.seed) == (5, True, 42)
    assert config.random_forest.model_dump() == {
        "trees": 200,
        "max_depth": 8,
        "min_samples_leaf": 10,
        "min_samples_split": 10,
    }


def test_an_option_of_another_model_decides_nothing():
    forest = StackConfig(model="random_forest").spec()
    assert StackConfig(model="random_forest", lightgbm={"rounds": 7}).spec() == forest
    assert StackConfig(model="random_forest", random_forest={"trees": 7}).spec() != forest
    assert StackConfig(model="random_forest", folds=4).spec() != forest
    auto = StackConfig().spec()
    assert StackConfig(lightgbm={"rounds": 7}, weighted={"by": "macro_f1"}).spec() == auto
    for candidate in ({"random_forest": {"trees": 7}}, {"greedy": {"rounds": 7}}, {"folds": 4}):
        assert StackConfig(**candidate).spec() != auto
    assert StackConfig(model="mean_proba", offsets=True, seed=1).spec() != (
        StackConfig(model="mean_proba", offsets=True).spec()
    )
    assert (
        StackConfig(model="majority", folds=4).spec()
        == StackConfig(model="majority", draws=3, seed=7, ridge={"alpha": 1}, top_k={"k": 2}).spec()
    )
    assert StackConfig(model="top_k", top_k={"k": 2}).spec() != forest
    seeds = [StackConfig(model="majority", calibrate=True, seed=s).spec() for s in (1, 2)]
    assert seeds[0] != seeds[1]


@pytest.mark.parametrize(
    "bad",
    [{"trees": 5}, {"folds": 1}, {"heads": ()}, {"model": "svm"}, {"seed": -1}],
)
def test_what_is_not_an_option_is_refused(bad):
    with pytest.raises(ValidationError):
        StackConfig(**bad)


def test_the_page_shows_a_section_that_is_valid():
    page = (Path(__file__).parents[2] / "docs" / "stack.md").read_text()
    (shown,) = re.findall(r"<!-- test: stack -->\n```yaml\n(.*?)```", page, re.S)
    config = StackConfig(**yaml.safe_load(shown)["stack"])
    assert (config.model, config.protocol, config.calibrate) == ("meta_soup", "oof", True)


def test_what_a_model_learns_from():
    values = {StackConfig(model=model).learns_from for model in ("lightgbm", "weighted")}
    assert values == {"train"}
    assert StackConfig(model="weighted", weighted={"by": "macro_f1"}).learns_from == "dev"
    assert StackConfig(model="top_k").learns_from == "dev"
    assert StackConfig(model="mean_proba").learns_from is None


def test_votes_have_no_offsets():
    for votes in ({"model": "majority"}, {"model": "top_k", "top_k": {"by": "plurality"}}):
        assert StackConfig(**votes).votes
        with pytest.raises(ValidationError, match="counts votes; remove offsets"):
            StackConfig(**votes, offsets=True)
    assert not StackConfig(model="top_k", offsets=True).votes
