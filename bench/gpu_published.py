"""Training a head in `bench.gpu`, against the published way (`bench.heads`) on the same GPU.

Both read the same clips from files that are in the page cache. Theirs computes in float32, as
released, and ours in bfloat16.
"""

from functools import cached_property

from bench.gpu_loop import Setting
from bench.gpu_rows import Figure, Group, seconds_of
from bench.heads import FULL, frames_of, msp_like
from bench.heads_sides import Clips, Ours, Published, Size, check

CLIPS = 512
TINY = Size(hidden=8, speech=16, text=16, batch=4)
CLOSE = 1e-2  # of logits: TF32


class Sides:
    """The clips on disk, and both sides with the same first weights."""

    def __init__(self, setting: Setting) -> None:
        self.device, size = setting.device, TINY if setting.tiny else FULL
        seconds = msp_like()[: 8 if setting.tiny else CLIPS] / (16 if setting.tiny else 1)
        dims = {"speech": size.speech, "text": size.text}
        clips = Clips.write(setting.root / "published", frames_of(seconds), dims)
        self.own = Ours(clips, size, stride=1, device=self.device)
        self.published = Published(clips, size, self.own.head())
        check(clips, self.own, self.published, CLOSE)

    @cached_property
    def seconds(self) -> tuple[float, float]:
        """Seconds of an epoch: the published way, ours."""
        sides = self.published.epoch, self.own.epoch
        return seconds_of(self.device, sides[0]), seconds_of(self.device, sides[1])


def published_rows(setting: Setting) -> list[Figure]:
    sides = Sides(setting)
    return [
        Figure("published, an epoch", lambda: sides.seconds[0], "s"),
        Figure("ours, an epoch", lambda: sides.seconds[1], "s"),
        Figure("published / ours", lambda: sides.seconds[0] / sides.seconds[1], "x", "≥", 2, True),
    ]


def published_groups(setting: Setting) -> list[Group]:
    return [Group("published training", lambda: published_rows(setting))]
