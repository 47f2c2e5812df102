"""Recordings that FFmpeg reads, through PyAV (the extra `media`): m4a, mp4, webm, any video."""

from collections.abc import Iterator
from pathlib import PurePath
from typing import Any, BinaryIO

import numpy as np

from ser.corpus.decoding.file import Block, Part, not_read, part_of, require_possible
from ser.corpus.decoding.libsndfile import broken_after, not_audio
from ser.corpus.errors import AudioError
from ser.version import install

# FFmpeg's other readers include playlists (HLS, DASH, concat), which open the files they name
CONTAINERS = (
    "aac,ac3,aiff,amr,amrnb,amrwb,ape,asf,au,avi,caf,eac3,flac,flv,matroska,mov,mp3,mpeg,mpegts,"
    "ogg,opus,tta,w64,wav,wv"
)
MEDIA = (
    *(".m4a", ".m4b", ".m4r", ".mp4", ".m4v", ".mov", ".3gp", ".3g2", ".aac", ".adts", ".amr"),
    *(".mka", ".mkv", ".webm", ".weba", ".wma", ".wmv", ".asf", ".avi", ".flv", ".f4v"),
    *(".ts", ".m2ts", ".mts", ".mpg", ".mpeg", ".vob", ".ac3", ".eac3", ".ape", ".tta", ".wv"),
    *(".spx", ".ogv", ".ogm"),
)
# headers of these state a length; that of others is an estimate by the bit rate
TRUSTED = ("mov", "matroska", "asf", "avi", "ape", "tta", "wv", "caf", "aiff", "wav", "w64")
CUT_SHORT = 0.25  # s that may be missing: a codec's start-up and the padding of its end


class Recording:
    """The first audio stream of a part; `error` is why libsndfile could not open it.

    Raises `AudioError` for what FFmpeg cannot read either, and where PyAV is not installed.
    """

    def __init__(self, file: BinaryIO, part: Part, suffix: str, error: Exception) -> None:
        suffix = suffix.lower()
        try:
            import av
        except ModuleNotFoundError:
            if suffix not in MEDIA:
                raise _refused(part, error) from error
            raise AudioError(f"{suffix} files need `{install('media')}`") from error
        self._part = part
        self._av, self._window = av, part_of(file, part)
        self._window.name = f"audio{suffix}"
        options = {"format_whitelist": CONTAINERS, "protocol_whitelist": "none"}
        try:
            self._file: Any = av.open(self._window, options=options)
        except Exception as refused:  # whatever PyAV raises for bytes that are not audio
            if part.cut:
                raise AudioError("cut short", "the remaining part cannot be decoded") from refused
            raise _refused(part, error) from refused
        try:
            self._stream = self._audio(suffix, error)
        except BaseException:
            self._file.close()
            raise
        self._form: tuple[str, str, int] | None = None
        self.next: Part | None = None
        self.exact = False

    def _audio(self, suffix: str, error: Exception) -> Any:
        if not self._file.streams.audio:
            if suffix not in MEDIA:  # FFmpeg takes a text for a picture
                raise _refused(self._part, error)
            raise AudioError("not audio", "it has no audio stream")
        stream = self._file.streams.audio[0]
        if stream.codec_context is None:
            raise AudioError("not audio that can be decoded", "its codec is unknown")
        self.rate, self.channels = int(stream.rate or 0), int(stream.channels or 0)
        require_possible(self.rate, self.channels)
        return stream

    def close(self) -> None:
        """Close the decoder."""
        self._file.close()

    @property
    def seconds(self) -> float | None:
        """Return the length that the header claims."""
        if self._stream.duration and self._stream.time_base:
            return float(self._stream.duration * self._stream.time_base)
        if self._file.duration:
            return float(self._file.duration / self._av.time_base)
        return None

    def span(self, first: int, last: int | None) -> Iterator[Block] | None:
        """Return None: FFmpeg decodes any span from the beginning of the file."""

    def blocks(self) -> Iterator[Block]:
        """Yield the samples to the end; raises `AudioError` for what is cut short or damaged."""
        seconds, packets = 0.0, self._file.demux(self._stream)
        while True:
            try:
                packet = next(packets, None)
                frames = packet.decode() if packet is not None else []
            except Exception as error:  # of many kinds; each is a damaged file
                raise self._broken(packets, error, seconds) from error
            if packet is None:
                break
            for frame in frames:
                require_possible(frame.sample_rate, frame.layout.nb_channels)
                seconds += frame.samples / frame.sample_rate
                for samples in self._samples(frame):
                    yield frame.sample_rate, samples
        if self._window.error is not None:
            raise not_read(self._window.error)
        self._require_whole(seconds)

    def _samples(self, frame: Any) -> Iterator[np.ndarray]:
        """Yield the samples of a frame: float32 `(samples, channels)` of full scale 1."""
        form = (frame.format.name, frame.layout.name, frame.sample_rate)
        if form != self._form:  # a converter takes frames of one form alone
            self._form, self._convert = form, self._av.AudioResampler("flt").resample
        for converted in self._convert(frame):
            yield converted.to_ndarray().reshape(-1, frame.layout.nb_channels)

    def _broken(self, packets: Iterator[Any], error: Exception, seconds: float) -> AudioError:
        try:
            at_end = not any(packet.size for packet in packets)
        except Exception:  # the file is broken here as well
            at_end = False
        if at_end:
            return AudioError("cut short", f"{seconds:.1f} s, ending within a frame")
        reason = getattr(error, "strerror", None) or str(error)
        return AudioError("damaged", f"{reason}, after {seconds:.1f} s")

    def _require_whole(self, seconds: float) -> None:
        if self._part.damaged:
            raise broken_after(seconds)
        if self._part.cut or self._part.present < 1:
            raise AudioError("cut short", f"{seconds:.1f} s, less than its header claims")
        claimed, names = self.seconds, self._file.format.name.split(",")
        alone = bool(self._stream.duration) or len(self._file.streams) == 1
        trusted = alone and any(name in TRUSTED for name in names)
        if claimed and trusted and seconds < claimed - CUT_SHORT:
            detail = f"{seconds:.1f} s of the {claimed:.1f} s that its header claims"
            raise AudioError("cut short", detail)


def _refused(part: Part, error: Exception) -> AudioError:
    return broken_after(0.0) if part.damaged else not_audio(error)


def suffix_of(name: object) -> str:
    """Return the suffix of a file's name, "" where it has none."""
    return PurePath(name).suffix if isinstance(name, str | PurePath) else ""
