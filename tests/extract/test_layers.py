from typing import Any

import pytest

from ser.extract.layers import check_policy, choose, item_shape, selected


@pytest.mark.parametrize(
    ("given", "expected"),
    [(-1, -1), (0, 0), ("3", 3), ("-2", -2), ("all", "all"), ("mean:-4:", "mean:-4:")],
)
def test_policies(given: Any, expected: Any) -> None:
    assert check_policy(given) == expected


@pytest.mark.parametrize("given", ["last", "mean", "max:-4:", "mean:a:", "mean:1:2:3", "1.5", ""])
def test_what_is_not_a_policy(given: str) -> None:
    with pytest.raises(ValueError, match=r"^a layer is an index, 'mean:-4:', 'sum:-4:'"):
        check_policy(given)


@pytest.mark.parametrize(
    ("policy", "expected"),
    [(-1, [4]), (1, [1]), ("all", [0, 1, 2, 3, 4]), ("mean:-2:", [3, 4]), ("sum:1:3", [1, 2])],
)
def test_taken(policy: Any, expected: list[int]) -> None:
    assert selected(5, policy) == expected


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        (5, "layer 5: the model has states 0 to 4"),
        (-6, "layer -6: the model has states 0 to 4"),
        ("mean:5:", "layer mean:5:: the slice is empty, the model has 5 states"),
    ],
)
def test_layer_the_model_lacks(policy: Any, message: str) -> None:
    with pytest.raises(ValueError) as raised:
        item_shape(5, 8, policy)
    assert str(raised.value) == message


def test_item_shape() -> None:
    assert [item_shape(5, 8, policy) for policy in (-1, "mean:-2:", "all")] == [(8,), (8,), (5, 8)]


def test_choose() -> None:
    import torch

    states = [torch.full((2, 3, 4), float(i)) for i in range(5)]
    assert choose(states, "all").shape == (2, 3, 5, 4)
    assert choose(states, "all")[0, 0, :, 0].tolist() == [0, 1, 2, 3, 4]
    values = {policy: choose(states, policy)[1, 2, 3].item() for policy in (-1, 1)}
    assert values == {-1: 4, 1: 1}
    assert choose(states, "mean:-2:")[1, 2, 3].item() == 3.5
    assert choose(states, "sum:-2:")[1, 2, 3].item() == 7
    assert choose(states, "sum:4:")[1, 2, 3].item() == 4
