"""Training a head in `bench.gpu`, against the published way (`bench.heads`) on the same GPU.

Both read the same clips from files that are in the page cache. Theirs computes in float32, as
released, and ours in bfloat16.
"""

from functools import cache

from bench.gpu_loop import Setting
from bench.gpu_rows import Figure, seconds_of
from bench.heads import FULL, frames_of, msp_like
from bench.heads_sides import Clips, Ours, Published, Size, check

CLIPS = 512
TINY = Size(hidden=8, speech=16, text=16, batch=4)
CLOSE = 1e-2  # of logits: TF32


def published_rows(setting: Setting) -> list[Figure]:
    """Write the clips, build both sides with the same first weights, and return their rows."""
    device, size = setting.device, TINY if setting.tiny else FULL
    lengths = msp_like()[: 8 if setting.tiny else CLIPS] / (16 if setting.tiny else 1)
    dims = {"speech": size.speech, "text": size.text}
    clips = Clips.write(setting.root / "published", frames_of(lengths), dims)
    own = Ours(clips, size, stride=1, device=device)
    published = Published(clips, size, own.head())
    check(clips, own, published, CLOSE)

    @cache
    def seconds(side: Ours | Published) -> float:
        return seconds_of(device, side.epoch)

    return [
        Figure("published, an epoch", lambda: seconds(published), "s"),
        Figure("ours, an epoch", lambda: seconds(own), "s"),
        Figure("published / ours", lambda: seconds(published) / seconds(own), "x", "≥", 2, True),
    ]
