"""Batches that fit the free memory of a GPU.

The plan is the same on every machine, so that the shards of several are disjoint, and its batches
occupy `FRAMES` at most: that keeps a GPU busy, and with half as many again the first convolution of
wav2vec 2.0's descendants would have over 2^31 values, which not every kernel takes. Where they
would not fit, each is divided before it runs. One input of the greatest length shows how many bytes
the model takes for a frame. The budget is `FRAMES` halved some times, so that GPUs of one type run
the same batches though their free memory differs a little. A batch that does not fit nevertheless
is halved when it runs (`ser.extract.batch`).
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from ser.extract.devices import device_type
from ser.extract.extractor import SAMPLE_RATE, Extractor

FRAMES = {"cuda": 48_000}  # a batch may occupy, padding included
FRAMES_ELSEWHERE = 6_000
SHARE = 0.8  # of the free memory, for one batch
LONGEST = 30 * SAMPLE_RATE  # of the trial: longer clips are cut to pieces
LONGEST_TEXT = 2_000  # characters


def default_frame_budget(device: str) -> int:
    """Return how many frames a batch may occupy on a device, such as `cpu` or `cuda:1`."""
    return FRAMES.get(device_type(device), FRAMES_ELSEWHERE)


def plan(extractor: Extractor, sizes: Mapping[str, int], budget: float) -> list[list[str]]:
    """Pack inputs of these sizes, by id, into batches of similar size within a budget of frames.

    The plan depends on the whole corpus and not on what is cached already: an interrupted run that
    goes on computes the very batches an uninterrupted one would, so its numbers are the same bits.
    """
    keys = {u: extractor.batch_key(size) for u, size in sizes.items()}
    batches: list[list[str]] = []
    last_key, room = None, 0.0
    for utterance in sorted(sizes, key=lambda u: (str(keys[u]), sizes[u], u)):
        cost = extractor.cost(sizes[utterance])
        if not batches or keys[utterance] != last_key or cost > room:
            batches.append([])
            last_key, room = keys[utterance], budget
        batches[-1].append(utterance)
        room -= cost
    return batches


def fitted(
    extractor: Extractor,
    batches: Sequence[Sequence[str]],
    sizes: Mapping[str, int],
    device: str,
    processes: int = 1,
) -> list[list[str]]:
    """Divide planned batches so that they fit the free memory of a GPU; elsewhere, change nothing.

    Args:
        extractor: loaded.
        batches: of the plan.
        sizes: samples or characters of every utterance.
        device: such as `cuda:1`.
        processes: how many share the GPU; each takes its part of the memory at most.
    """
    if device_type(device) != "cuda" or extractor.gives != "frames":
        return [list(batch) for batch in batches]
    longest = max(sizes[u] for batch in batches for u in batch)
    needed, budget = frame_bytes(extractor, longest, device), float(default_frame_budget(device))
    least, free = extractor.cost(longest), SHARE * free_bytes(device, processes)
    while budget > least and budget * needed > free:
        budget /= 2
    return [part for b in batches for part in plan(extractor, {u: sizes[u] for u in b}, budget)]


def frame_bytes(extractor: Extractor, longest: int, device: str) -> float:
    """Return about the bytes that a model takes for a frame beside its weights; 0 if it fails.

    An input of the greatest size runs alone; the first run also allocates what later ones share.
    """
    trial: np.ndarray | str = "word " * (min(longest, LONGEST_TEXT) // 5 + 1)
    if extractor.reads == "audio":
        longest = min(longest, LONGEST)
        trial = 0.1 * np.random.default_rng(0).standard_normal(longest, np.float32)
    size = len(trial)
    try:
        extractor.extract([trial])
        return peak_bytes(device, lambda: extractor.extract([trial])) / extractor.cost(size)
    except Exception:  # of the model's library: the clips themselves show what is wrong
        return 0.0


def free_bytes(device: str, processes: int) -> int:
    """Return the free bytes of a GPU, or of the part that one of several processes may take.

    With several, another may have taken its part before or not: the part is of all memory.
    """
    import torch

    torch.cuda.empty_cache()
    free, total = torch.cuda.mem_get_info(device)
    if processes == 1:
        return free
    torch.cuda.set_per_process_memory_fraction(1 / processes, device)
    return min(free, total // processes - torch.cuda.memory_allocated(device))


def peak_bytes(device: str, work: Callable[[], object]) -> int:
    """Return the most bytes of a GPU that `work` adds to those in use."""
    import torch

    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    work()
    return torch.cuda.max_memory_allocated(device) - before
