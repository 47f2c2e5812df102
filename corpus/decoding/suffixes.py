"""The suffixes of files that can be decoded, for searching folders."""

from itertools import chain

import soundfile

from ser.corpus.decoding.ffmpeg import MEDIA

# of libsndfile's formats; one that is not listed has its own name
BY_FORMAT = {
    "AIFF": (".aif", ".aiff", ".aifc"),
    "AU": (".au", ".snd"),
    "CAF": (".caf", ".caff"),
    "IRCAM": (".sf", ".ircam"),
    "MP3": (".mp3", ".mp2", ".mp1", ".mpga", ".mpa"),
    "NIST": (".sph", ".nist"),
    "OGG": (".ogg", ".oga", ".opus"),
    "RF64": (".rf64", ".bw64"),
    "SVX": (".svx", ".8svx", ".iff"),
    "WAV": (".wav", ".wave", ".bwf"),
    "WAVEX": (),
    # files without a header, tables of numbers, features and instruments: not recordings
    **dict.fromkeys(("RAW", "MAT4", "MAT5", "HTK", "SD2", "XI", "MPC2K"), ()),
}
_formats = (BY_FORMAT.get(name, (f".{name.lower()}",)) for name in soundfile.available_formats())
SUFFIXES = tuple(sorted({*MEDIA, *chain.from_iterable(_formats)}))  # in lower case
