"""The microphone as live audio, by PortAudio (`sounddevice`, extra `mic`)."""

import contextlib
from collections.abc import Iterator

import numpy as np

from ser.corpus.errors import UserError
from ser.predict.live import LiveAudio
from ser.version import install


class Microphone:
    """The default input device; in a `with` block it records into the `LiveAudio` of the block.

    Args:
        window: the length of a window in seconds, 1 to 30.
        hop: from the start of one window to the next, in seconds.

    The audio is closed when the device stops, as when it is unplugged. Raises `UserError` without
    `sounddevice`, PortAudio or a device.
    """

    def __init__(self, window: float, hop: float) -> None:
        try:
            import sounddevice
        except ImportError as error:
            raise UserError(
                f"--mic: sounddevice is not installed; run `{install('mic')}`, or give a file."
            ) from error
        except OSError as error:
            raise UserError(
                "--mic: the library PortAudio is not installed; install it (on Debian and Ubuntu "
                "the package libportaudio2), or give a file."
            ) from error
        self._errors = (sounddevice.PortAudioError, ValueError)
        with self._device_errors():
            rate = round(sounddevice.query_devices(kind="input")["default_samplerate"])
            self.audio = LiveAudio(rate, window, hop)
            self._stream = sounddevice.InputStream(
                rate,
                channels=1,
                dtype="float32",
                callback=self._push,
                finished_callback=self.audio.close,
            )

    def __enter__(self) -> LiveAudio:
        with self._device_errors():
            self._stream.start()
        return self.audio

    def __exit__(self, *_: object) -> None:
        self._stream.close()

    def _push(self, samples: np.ndarray, *_: object) -> None:
        self.audio.push(samples[:, 0])

    @contextlib.contextmanager
    def _device_errors(self) -> Iterator[None]:
        try:
            yield
        except self._errors as error:
            reason = " ".join(str(error).split()).rstrip(".")
            raise UserError(
                f"--mic: no microphone can be opened ({reason}); connect one, or give a file."
            ) from error
