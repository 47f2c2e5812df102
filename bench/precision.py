"""What float16, bfloat16 and int8 lose of real frames: Whisper tiny.en's, trimmed windows.

Clips of RAVDESS in SER_SHARED, else synthesized ones. Errors are relative L2
over all frames, in percent. A row is the error of what is read back from the cache.
"""

from collections.abc import Sequence

import numpy as np

from bench.extract import MODEL, speech_corpus
from bench.report import Row, arguments, show, temporary_folder


def main() -> None:
    from ser.corpus.audio import load
    from ser.extract.extractor import EXTRACTORS, parse_options
    from ser.extract.models import resolve

    args = arguments(__doc__ or "").parse_args()
    with temporary_folder(args) as root:
        manifest, audio, origin = speech_corpus(8 if args.quick else 24, root)
        whisper = parse_options({"model": MODEL, "window": "trim"})
        extractor = EXTRACTORS.get("whisper")(whisper, resolve(MODEL))
        extractor.load("cpu")
        waves = [load(audio / path) for path in manifest.frame["path"]]
        exact = [np.asarray(extractor.extract([wave])[0]) for wave in waves]
    rows = [Row(name, 100 * _error(exact, name), "%") for name in ("float16", "bfloat16", "int8")]
    show(args, {"Relative L2 error": rows}, f"{len(exact)} clips of {origin}, {MODEL}")


def _error(exact: Sequence[np.ndarray], name: str) -> float:
    kept = np.concatenate([_kept(frames, name) for frames in exact]).astype(np.float64)
    frames = np.concatenate(exact).astype(np.float64)
    return float(np.linalg.norm(kept - frames) / np.linalg.norm(frames))


def _kept(frames: np.ndarray, name: str) -> np.ndarray:
    import torch

    from ser.cache.precision import encode, values

    if name == "bfloat16":  # not offered by the cache: what it would keep
        rounded: np.ndarray = torch.from_numpy(frames).bfloat16().float().numpy()
        return rounded
    return values(encode(frames, "int8" if name == "int8" else "float16"))


if __name__ == "__main__":
    main()
