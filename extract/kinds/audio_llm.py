"""Class scores of an audio language model on a server, for the audio of each clip.

Any server with OpenAI's chat API that takes `input_audio` can be used, such as vLLM with
Qwen2.5-Omni, Qwen3-Omni, Qwen2-Audio or Voxtral. The question is put as `kind: llm` puts it to text
models, with the clip in the place of its transcript: a WAV file, 16 bits at 16 kHz, in base64. The
answers and what fails are those of `kind: llm`, too.
"""

import base64
import io
from collections.abc import Sequence
from typing import ClassVar, Literal

import numpy as np
import soundfile
from pydantic import Field

from ser.extract.extractor import SAMPLE_RATE, FeatureOptions, extractor
from ser.extract.kinds.chat_options import ChatOptions
from ser.extract.kinds.llm import LLM

LONGEST = 600.0  # s: 26 MB of a request
PROMPT = """\
Which of these emotions does the voice sound like most?
{classes}
Answer with one {answer} and nothing else."""


class AudioLLMOptions(ChatOptions):
    """Options of `kind: audio_llm`, besides those of `ChatOptions`.

    A clip of more than `longest` seconds is not sent, and fails.
    """

    prompt: str = Field(PROMPT, max_length=20_000)
    longest: float = Field(default=60.0, gt=0, le=LONGEST)


@extractor("audio_llm")
class AudioLLM(LLM):
    """Request the class probabilities of each clip from a server."""

    Options: ClassVar[type[FeatureOptions]] = AudioLLMOptions
    reads: ClassVar[Literal["audio", "text", "file"]] = "audio"
    frame_rate = None  # one frame for a clip
    probe = np.zeros(SAMPLE_RATE, np.float32)

    def extract(self, batch: Sequence[np.ndarray]) -> list[np.ndarray | ValueError]:
        """Return the log-probabilities of each waveform `(samples,)` at 16 kHz: `(1, classes)`.

        An answer that names no class is a `ValueError` in its place, as is a clip that is too long.
        Raises `UserError` when the server fails.
        """
        return self._answers(batch)

    def content(self, source: np.ndarray) -> list[dict[str, object]]:
        """Return the clip and the question about it."""
        require_short(source, self.options.longest)
        audio = {"data": base64.b64encode(wav(source)).decode(), "format": "wav"}
        return [
            {"type": "input_audio", "input_audio": audio},
            {"type": "text", "text": self.options.question()},
        ]


def require_short(source: np.ndarray, longest: float) -> None:
    """Raise `ValueError` for a waveform of more than `longest` seconds."""
    seconds = len(source) / SAMPLE_RATE
    if seconds > longest:
        raise ValueError(
            f"it is {seconds:.1f} s long, and clips over {longest:g} s are not scored; raise "
            "`longest`, or cut it by `start` and `end`"
        )


def wav(source: np.ndarray) -> bytes:
    """Return a waveform from -1 to 1 as a WAV file of one channel, 16 bits at 16 kHz."""
    samples = np.round(np.clip(source, -1.0, 1.0) * 32767).astype("<i2")
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, SAMPLE_RATE, format="WAV", subtype="PCM_16")
    return buffer.getvalue()
