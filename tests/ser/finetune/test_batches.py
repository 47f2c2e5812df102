import numpy as np
import torch

from ser.finetune.batches import fitting, share_of_process
from ser.heads.training.processes import Processes

LENGTHS = np.array([10, 20, 25, 30, 40, 50])


def test_parts_are_within_the_budget_padding_included():
    assert fitting([0, 1, 2, 3, 4, 5], LENGTHS, 75) == [[0, 1, 2], [3], [4], [5]]
    assert fitting([5, 0], LENGTHS, 99) == [[5], [0]]
    assert fitting([5, 0], LENGTHS, None) == [[5, 0]]


def test_a_clip_beyond_the_budget_is_a_part_of_its_own():
    assert fitting([4, 5], LENGTHS, 1) == [[4], [5]]


def test_every_process_has_its_clips_of_each_batch():
    device = torch.device("cpu")
    shares = [
        share_of_process([[0, 1, 2], [3]], LENGTHS, None, Processes(rank, 2, device))
        for rank in range(2)
    ]
    assert [[share.rows for share in part] for part in shares] == [[[0, 2], [3]], [[1], [3]]]
    assert [[share.trains for share in part] for part in shares] == [[True, True], [True, False]]
