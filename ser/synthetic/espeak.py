"""espeak-ng through ctypes: a formant synthesizer, from the package espeakng-loader."""

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from ser.corpus.errors import UserError
from ser.version import install

# constants of espeak-ng's speak_lib.h
SYNCHRONOUS = 2
DONT_EXIT = 0x8000
UTF8 = 1
PARAMETERS = {"rate": 1, "volume": 2, "pitch": 3, "range": 4, "gap": 7}
CALLBACK = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p
)


class Espeak:
    """The initialised library, and the samples that it returns by its callback."""

    def __init__(self, library: ctypes.CDLL, data: str) -> None:
        self._library = library
        self._samples: list[bytes] = []
        self._callback = CALLBACK(self._take)  # must live as long as the library may call it
        self.rate = int(library.espeak_Initialize(SYNCHRONOUS, 0, data.encode(), DONT_EXIT))
        if self.rate <= 0:
            raise UserError(
                f"{data}: espeak-ng cannot read its data; install it again with "
                "`pip install --force-reinstall espeakng-loader`."
            )
        library.espeak_SetSynthCallback(self._callback)

    def _take(self, samples: Any, count: int, events: int | None) -> int:
        if samples and count > 0:
            self._samples.append(ctypes.string_at(samples, 2 * count))
        return 0  # continue

    def synthesize(self, row: dict[str, Any]) -> np.ndarray:
        """Speak a row of the plan; return int16 `(samples,)`."""
        self._samples.clear()
        text = row["transcript"].encode() + b"\0"
        failed = self._library.espeak_SetVoiceByName(row["voice"].encode())
        for name, number in PARAMETERS.items():
            failed |= self._library.espeak_SetParameter(number, row[name], 0)
        failed |= self._library.espeak_Synth(text, len(text), 0, 1, 0, UTF8, None, None)
        if failed or not self._samples:
            raise RuntimeError(
                f"espeak-ng returned no speech for {row['utterance']} ({row['voice']})"
            )
        return np.frombuffer(b"".join(self._samples), np.int16)


@contextmanager
def espeak() -> Iterator[Espeak]:
    """Load espeak-ng in its initial state, and unload it afterwards.

    Raises `UserError` when espeakng-loader is not installed.
    """
    try:
        import espeakng_loader
    except ImportError as error:
        raise UserError(
            "demo: espeakng-loader, which speaks the demo corpus, is not installed; run "
            f"`{install('demo')}`."
        ) from error
    from _ctypes import dlclose  # ctypes opens libraries and offers no other way to close one

    library = ctypes.CDLL(espeakng_loader.get_library_path())
    try:
        yield Espeak(library, espeakng_loader.get_data_path())
    finally:
        library.espeak_Terminate()
        dlclose(library._handle)
