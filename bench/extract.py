"""Extraction with Whisper tiny.en on the CPU, from audio files to stored frames and words.

reference   one clip at a time: padded to 30 s, Hugging Face's encoder in float32, the clip's own
            frames cut out and saved with torch.save, a file a clip; what the papers' code does
            (but for a view that keeps all 30 s: here it is cloned)
ours        extract(), from the same files to the cache, window full and window trim
limit       the bare encoder of ours on the very batches that extract() plans, log-mels made before
the rest    extract() with a model that takes no time: headers, plan, decoding, log-mels, writing

One thread for every library (OMP_NUM_THREADS=1, set here before torch is imported); ours decodes
and writes in threads of its own, so CPU time is given beside the rate. Models are loaded before the
first round, for every side. In a round, what pads to 30 s takes one part of the clips, the same for
every side; trim takes all of them, since its batches are made of clips of like length.
"""

import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache, partial
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import numpy as np
import polars as pl
import soundfile
import soxr

import ser.extract.job
from bench.report import (
    Row,
    Side,
    Target,
    arguments,
    compare,
    fresh,
    show,
    temporary_folder,
    times_as_fast,
    times_the_cpu,
    use_one_thread,
)
from ser.cache.features import FeatureCache
from ser.corpus.manifest import Manifest
from ser.extract.extractor import SAMPLE_RATE, parse_options
from ser.extract.job import Job
from ser.extract.kinds.whisper import WhisperOptions
from ser.extract.models import resolve
from ser.extract.run import extract

if TYPE_CHECKING:
    from torch import Tensor

    from ser.extract.kinds.whisper_models import CTranslate2Whisper

MODEL = "whisper-tiny.en"
TINY_EN: dict[str, Any] = {  # the sizes of openai/whisper-tiny.en
    "vocab_size": 51_864,
    "d_model": 384,
    "encoder_layers": 4,
    "decoder_layers": 4,
    "encoder_attention_heads": 6,
    "decoder_attention_heads": 6,
    "encoder_ffn_dim": 1_536,
    "decoder_ffn_dim": 1_536,
}
WINDOWS = ("full", "trim")
REFERENCE = "reference"
QUICK, FULL = (20, 2), (200, 4)  # clips, and the parts of them: one a round, as many rounds


def main() -> None:
    use_one_thread()
    parser = arguments(__doc__ or "")
    parser.add_argument("--clips", type=int, help=f"default {FULL[0]}, --quick {QUICK[0]}")
    parser.add_argument(
        "--hf", type=Path, help="Hugging Face folder of whisper-tiny.en for the reference"
    )
    args = parser.parse_args()
    clips, parts = QUICK if args.quick else FULL
    with temporary_folder(args) as root:
        manifest, audio, origin = speech_corpus(args.clips or clips, root / "speech")
        paths = [audio / path for path in manifest.frame["path"]]
        seconds = np.mean([soundfile.info(path).duration for path in paths])
        with _loaded_once():
            windows, targets = _windows(manifest, audio, root, parts, load_reference(args.hf))
    notes = [
        f"{len(manifest)} clips of {origin}, mean {seconds:.1f} s; ours: {MODEL}, CTranslate2, "
        "float32",
        f"reference: Hugging Face, float32, {args.hf or 'random weights (the cost is the same)'}",
        "OMP_NUM_THREADS=1 for every side; reading and hashing the weights is in none",
    ]
    show(args, {"Frames": windows}, *notes, targets=targets)


@contextmanager
def _loaded_once() -> Iterator[None]:
    """Read and hash the weights before the first round, untimed."""
    from ser.extract.kinds import whisper_models

    with (
        patch.object(whisper_models, "read_ctranslate2", cache(whisper_models.read_ctranslate2)),
        patch.object(ser.extract.job, "resolve", cache(resolve)),
    ):
        yield


def speech_corpus(clips: int, folder: Path) -> tuple[Manifest, Path, str]:
    """Return clips of RAVDESS in SER_SHARED, else synthesized ones."""
    shared = os.environ.get("SER_SHARED")
    if shared:
        audio = Path(shared) / "corpora" / "ravdess"
        files = sorted(path.name for path in audio.glob("*.flac"))
        chosen = files[:: max(1, len(files) // clips)][:clips]
        rows = {"utterance": [Path(name).stem for name in chosen], "path": chosen}
        return Manifest(pl.DataFrame(rows)), audio, "RAVDESS"
    from ser.synthetic.speech import synthesize

    spoken = synthesize(folder, speakers=10, per_class=math.ceil(clips / 80))
    step = max(1, len(spoken) // clips)
    chosen_rows = spoken.frame.gather_every(step).head(clips)
    return Manifest(chosen_rows), folder / "audio", "synthesized speech (SER_SHARED is not set)"


@contextmanager
def _taped(tape: "list[Tensor] | None" = None) -> Iterator[None]:
    """Let the model return zeros, and keep the log-mels that it is given on the tape."""
    from ser.extract.kinds.whisper_models import CTranslate2Whisper

    def encode(self: CTranslate2Whisper, mels: "Tensor") -> "list[Tensor]":
        if tape is not None and len(mels[0]) > 4:  # less is asked when it is loaded
            tape.append(mels)
        return [mels.new_zeros(len(mels), math.ceil(mels.shape[1] / 2), TINY_EN["d_model"])]

    with (
        patch.object(CTranslate2Whisper, "encode", encode),
        patch.object(CTranslate2Whisper, "chosen", lambda self, states: states[0]),
    ):
        yield


@dataclass(frozen=True)
class Work:
    """Some clips and the folder of their features, a new one for each run."""

    manifest: Manifest
    audio: Path
    out: Path

    def frames(self, window: str) -> Path:
        """Extract Whisper's frames; raises `AssertionError` when a clip failed."""
        parsed = parse_options({"kind": "whisper", "model": MODEL, "window": window})
        report = extract(Job("whisper", parsed, self.manifest, self.audio, self.out), "cpu")
        if report.failed or report.extracted != len(self.manifest):
            raise AssertionError(f"not all was extracted: {report}")
        return Path(report.folder)

    def without_model(self, window: str) -> None:
        """Extract with a model that takes no time."""
        with _taped():
            self.frames(window)


def load_reference(folder: Path | None) -> Callable[[Work], None]:
    """Load the model; return a function that extracts as the papers' code does.

    It writes `<utterance>.pt`, float32 `(frames, dim)`, for each row.
    """
    import torch
    from transformers import WhisperConfig, WhisperFeatureExtractor, WhisperModel

    if folder is None:
        torch.manual_seed(0)
        model = WhisperModel(WhisperConfig(**TINY_EN))
    else:
        model = WhisperModel.from_pretrained(folder, dtype=torch.float32)
    encoder, log_mels = model.eval().encoder, WhisperFeatureExtractor()

    def reference(work: Work) -> None:
        work.out.mkdir(parents=True)
        for utterance, path in work.manifest.frame.select("utterance", "path").iter_rows():
            wave, rate = soundfile.read(work.audio / path, dtype="float32")
            if rate != SAMPLE_RATE:
                wave = soxr.resample(wave, rate, SAMPLE_RATE)
            mels = log_mels(wave, sampling_rate=SAMPLE_RATE, return_tensors="pt")
            with torch.inference_mode():
                states = encoder(mels.input_features).last_hidden_state[0]
            torch.save(states[: math.ceil(len(wave) / 320)].clone(), work.out / f"{utterance}.pt")

    return reference


def _windows(
    manifest: Manifest, audio: Path, root: Path, rounds: int, reference: Callable[[Work], None]
) -> tuple[list[Row], list[Target]]:
    from ser.extract.kinds.whisper_models import CTranslate2Whisper

    full = WhisperOptions.model_validate({"kind": "whisper", "model": MODEL})
    model = CTranslate2Whisper(full, resolve(MODEL).folder, "cpu", words=False)
    out = root / "out"
    parts = [
        Work(Manifest(manifest.frame.gather_every(rounds, i)), audio, out) for i in range(rounds)
    ]
    works = {"full": parts, "trim": [Work(manifest, audio, out)]}
    _check(parts[0], reference)
    compared = [_side(REFERENCE, parts, reference)]
    for window in WINDOWS:
        ours = f"ours, {window}"
        frames = partial(Work.frames, window=window)
        encode = partial(_encode, model, {work: _batches(work, window) for work in works[window]})
        rest = partial(Work.without_model, window=window)
        compared += [
            _side(ours, works[window], frames, REFERENCE),
            _side(f"limit, {window}", works[window], encode, ours),
            _side(f"the rest, {window}", works[window], rest, ours),
        ]
    rows = compare(compared, "clips", rounds)
    for window in WINDOWS:
        names = (f"ours, {window}", REFERENCE), (f"limit, {window}", f"ours, {window}")
        rows += [Row(f"CPU: {a} / {b}", times_the_cpu(rows, a, b), "x") for a, b in names]
    rate = times_as_fast(rows, "ours, trim", REFERENCE)
    targets = [Target("ours, trim / reference", rate, "≥", 6, "x")]
    for window in WINDOWS:
        rate = times_as_fast(rows, f"ours, {window}", f"limit, {window}")
        targets.append(Target(f"ours, {window} / limit", rate, "≥", 0.9, "x"))
    return rows, targets


def _side(name: str, works: Sequence[Work], run: Callable[[Work], object], base: str = "") -> Side:
    """Return a side that takes the works in turn, one a round."""
    turn = cycle(works)
    before = partial(fresh, works[0].out)
    return Side(name, lambda: run(next(turn)), len(works[0].manifest), before=before, base=base)


def _check(work: Work, reference: Callable[[Work], None]) -> None:
    """Check that all sides make frames of the same shapes."""
    import torch

    few = Work(Manifest(work.manifest.frame.head(4)), work.audio, work.out)
    reference(replace(few, out=few.out / "pt"))
    theirs = {p.stem: torch.load(p).shape for p in (few.out / "pt").glob("*.pt")}
    for window in WINDOWS:
        ours = FeatureCache(few.frames(window))
        if {u: ours.frames(u).shape for u in theirs} != theirs:
            raise AssertionError(f"the shapes differ: {theirs}")
    fresh(work.out)


def _batches(work: Work, window: str) -> "list[Tensor]":
    """Return the log-mels of every batch that extract() runs, in its order."""
    tape: list[Any] = []
    with _taped(tape):
        work.frames(window)
    fresh(work.out)
    return tape


def _encode(
    model: "CTranslate2Whisper", batches: "Mapping[Work, Sequence[Tensor]]", work: Work
) -> None:
    for mels in batches[work]:
        model.encode(mels)


if __name__ == "__main__":
    main()
