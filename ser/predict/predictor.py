"""A trained run that predicts the emotion in any audio.

1. Read the run's pipeline.yaml, its stack and the heads of the stack (or one head); no more.
2. Decode clips in threads, segment long ones, and collect up to two minutes of audio.
3. Extract what the heads read and apply heads and stack by the code of the stages, so that a clip
   gets the probabilities that it got in its run.

Any thread may predict: the models serve one at a time, and decoding goes on meanwhile.
"""

import threading
from collections.abc import Hashable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import compress
from pathlib import Path
from typing import Any, overload

import numpy as np

from ser.corpus.errors import UserError
from ser.corpus.synthetic import model_note
from ser.extract.extractor import choose_device
from ser.extract.models import resolve
from ser.extract.run import default_frame_budget
from ser.heads.trained import TrainedHead
from ser.predict.attention import explain_clip, head_weights, inputs_of
from ser.predict.bundle import open_bundle
from ser.predict.clips import Clip, Cut, Piece, Segmentation, open_clip, prefetch, read_pieces
from ser.predict.features import Extracted, LiveFeatures
from ser.predict.html import predictor_html
from ser.predict.result import Failure, Result, Segment, is_unsure, join
from ser.predict.run_folder import best_head, read_pipeline
from ser.predict.sources import Source, is_clip, read_source
from ser.predict.synthetic import synthetic_share
from ser.predict.turns import Turns, TurnsSource
from ser.score.heads import softmax
from ser.score.record import has_stack
from ser.stack.run import load as load_stack
from ser.stack.run import stacked_heads
from ser.stack.table import LogitTable, Rows

FRAMES_A_SECOND = 50
NOT_FINITE = "a head's output for it is not finite"


@dataclass(frozen=True)
class _Prediction:
    """The prediction for one segment; the fields are those of `Segment`."""

    emotion: str | None
    probabilities: dict[str, float]
    attributes: dict[str, float]
    heads: dict[str, dict[str, float]]


class Predictor:
    """A trained run, or one of its heads, that predicts emotions in audio; see `ser.load`.

    Args:
        run: the folder of a run, or a bundle that `ser pack` made of it.
        head: the head to use; by default the stack, and in a run without one the head with the best
            score on dev.
        device: auto, cpu or cuda.
        min_confidence: the highest probability below which a result is `unsure`, 0 to 1; by default
            none is.

    `classes` and `attributes` are what it predicts, `heads` the names of the heads in use; `stack`
    is None for a head alone. `synthetic` is the share of synthetic speech among the training clips
    (None where it is unknown), and `notes` are sentences that every result carries. Raises
    `UserError` for a run that is incomplete.

        >>> p = Predictor("runs/mine", device="cpu")
        >>> p
        Predictor('runs/mine', heads=['audio'], classes=['angry', 'sad'], device='cpu')
        >>> [result.emotion for result in p(["clip.wav", "clips/1.wav"])]
        ['angry', 'sad']
    """

    def __init__(
        self,
        run: str | Path,
        head: str | None = None,
        device: str = "auto",
        min_confidence: float | None = None,
    ) -> None:
        if min_confidence is not None and not 0 <= min_confidence <= 1:
            raise UserError(f"min_confidence is {min_confidence:g}; give a number from 0 to 1.")
        self.min_confidence = min_confidence
        bundle = open_bundle(run) if Path(run).is_file() else None
        self.source = Path(run)
        self.run = bundle.folder if bundle else Path(run)
        self.device = choose_device(device)
        self.pipeline = bundle.pipeline() if bundle else read_pipeline(self.run)
        stacked = head is None and has_stack(self.run)  # damaged or not: never another system
        with bundle.reading() if bundle else nullcontext():
            names = stacked_heads(self.run) if stacked else [head or best_head(self.run)]
            table = self._read_heads(names)
            self.stack = load_stack(self.run, table) if stacked else None
        self.heads, self.attributes = tuple(names), table.attributes
        self.classes = table.classes if table.classifiers else ()
        self._table = table
        if min_confidence is not None and not self.classes:
            raise UserError(
                f"{run}: it predicts no classes, so there is no confidence; leave min_confidence "
                "out."
            )
        trained_on = {name: spec for h in self._heads for name, spec in h.made_of.items()}
        find = bundle.weights if bundle else resolve
        features = dict(self.pipeline.features) | self.pipeline.finetuned
        self.features = LiveFeatures(features, trained_on, trained_on, self.device, find)
        # the heads of a bundle record it all, and no file that a bundle names is opened
        options = {} if bundle else {n: self.features.options[n] for n in self.features.names}
        manifest = None if bundle else self.pipeline.corpus.manifest
        self.synthetic = synthetic_share(self.run, names, options, manifest)
        note = model_note(self.synthetic)
        self.notes = () if note is None else (note,)
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return (
            f"Predictor({str(self.source)!r}, heads={list(self.heads)}, "
            f"classes={list(self.classes)}, device={self.device!r})"
        )

    def _repr_html_(self) -> str:
        return predictor_html(self)

    def _read_heads(self, names: Sequence[str]) -> LogitTable:
        """Read the heads; return a table of what they predict, without rows."""
        folder = self.run / "heads"
        self._heads = [TrainedHead.load(folder / name, self.device) for name in names]
        return LogitTable.without_rows(
            folder,
            {head.name: head.fingerprint for head in self._heads},
            self._heads[0].classes,
            [head.name for head in self._heads if head.classifies],
            {head.name: head.attributes for head in self._heads},
        )

    @property
    def by_speaker(self) -> bool:
        """Return whether any head in use reads a feature with `normalize: speaker`."""
        return any(head.by_speaker for head in self._heads)

    def load(self) -> None:
        """Load every model now instead of with the first clip."""
        with self._lock:
            self.features.load()

    @overload
    def __call__(self, clips: Source, **options: Any) -> Result: ...

    @overload
    def __call__(self, clips: Sequence[Source], **options: Any) -> list[Result]: ...

    @overload
    def __call__(self, clips: Iterator[Source], **options: Any) -> Iterator[Result]: ...

    def __call__(self, clips: Any, **options: Any) -> Result | list[Result] | Iterator[Result]:
        """Return the result for one clip, a list for a list, a generator for any other iterable.

        Args:
            clips: one clip or several; a clip is a path, the bytes of a file, an open file,
                (samples, rate), or a mapping with `array` and `sampling_rate`.
            **options: those of `stream`.

        Raises `UserError` for a clip that cannot be used.
        """
        if is_clip(clips):
            return _require_result(next(self.stream([clips], **options)))
        results = map(_require_result, self.stream(clips, **options))
        return list(results) if isinstance(clips, Sequence) else results

    def stream(
        self,
        clips: Iterable[Source],
        *,
        timeline: bool = False,
        explain: bool = False,
        one_speaker: bool = False,
        turns: TurnsSource | None = None,
        cut: Cut = "auto",
        window: float = 10.0,
        hop: float = 5.0,
    ) -> Iterator[Result | Failure]:
        """Yield a result for each clip in order, or a failure for one that cannot be used.

        Args:
            clips: the clips, in the forms that calling the predictor takes.
            timeline: segment short clips too.
            explain: add the attention of the heads.
            one_speaker: all clips are of one speaker, which heads with `normalize: speaker` use;
                they are then all held in memory. Without it such a head compares each segment with
                itself alone.
            turns: who speaks when: an RTTM file, in which a clip is found by its file name without
                suffix, or for one clip a list of (start, end, speaker), in seconds, the speaker
                None where not known. The turns are the segments, and heads with `normalize:
                speaker` use the speakers of each clip, which is then held in memory.
            cut: how long audio is segmented: `speech` (at pauses, by silero-vad), `windows`, or
                `auto`, which is speech where silero-vad is installed.
            window: the length of a window in seconds, 1 to 30.
            hop: from the start of one window to the next, in seconds.

        Clips are collected up to two minutes of audio, so the first result of many comes when that
        much has been read. Raises `UserError` for a model that is absent, for an RTTM file that
        cannot be read, and for `one_speaker` together with `turns`.
        """
        if one_speaker and turns is not None:
            raise UserError("one_speaker and turns are both given; give one of them.")
        speech = None if turns is None else Turns.read(turns)
        segmentation = Segmentation(timeline, cut, window, hop, speech)
        budget = default_frame_budget(self.device) / FRAMES_A_SECOND  # s
        collected: list[tuple[Clip, Piece | None]] = []
        segments: dict[int, list[Segment]] = {}
        opened = prefetch(lambda source: open_clip(source, segmentation), map(read_source, clips))
        seconds = 0.0
        for clip, piece in read_pieces(opened):
            collected.append((clip, piece))
            seconds += 0 if piece is None else piece.end - piece.start
            # the statistics of a speaker need all of their speech
            needs_more = self.by_speaker and (one_speaker or (speech and piece is not None))
            if seconds >= budget and not needs_more:
                yield from self._results(collected, segments, explain, one_speaker)
                collected, seconds = [], 0.0
        yield from self._results(collected, segments, explain, one_speaker)

    def _results(
        self,
        entries: Sequence[tuple[Clip, Piece | None]],
        segments: dict[int, list[Segment]],
        explain: bool,
        one_speaker: bool,
    ) -> Iterator[Result | Failure]:
        """Predict pieces; yield the result of each clip whose last piece is among them."""
        pieces = [piece for _, piece in entries if piece is not None]
        speakers = [_speaker(clip, piece, one_speaker) for clip, piece in entries if piece]
        predicted = iter(self._predict(pieces, explain, speakers) if pieces else [])
        for clip, piece in entries:
            if piece is not None:
                segment = next(predicted)
                if isinstance(segment, str):
                    clip.error = clip.error or segment
                else:
                    segments.setdefault(id(clip), []).append(segment)
                continue
            complete = segments.pop(id(clip), [])
            if complete and not clip.damaged:
                notes = [*self.notes, *clip.notes()]
                yield join(clip.path, clip.seconds, complete, notes, self.min_confidence)
            else:
                nothing = "no turn lies within the audio" if clip.turns else "no speech was found"
                yield Failure(clip.path, clip.error or nothing)

    def _predict(
        self, pieces: Sequence[Piece], explain: bool, speakers: Sequence[Hashable]
    ) -> list[Segment | str]:
        """Return the segment of each piece, or why there is none."""
        with self._lock:
            extracted = self.features.extract([piece.wave for piece in pieces])
            clips = [clip for clip in extracted if isinstance(clip, Extracted)]
            usable = [isinstance(clip, Extracted) for clip in extracted]
            speakers = list(compress(speakers, usable))
            predictions = iter(self._classify(clips, speakers) if clips else [])
            weights = iter(head_weights(self._heads, clips, speakers) if explain else [])
            segments: list[Segment | str] = []
            for piece, clip in zip(pieces, extracted, strict=True):
                if isinstance(clip, str):
                    segments.append(clip)
                    continue
                prediction, pooling = next(predictions), next(weights, None)
                if prediction is None:
                    segments.append(NOT_FINITE)
                    continue
                transcript = next(iter(clip.words.values()), None)
                attention, words = explain_clip(self.features, clip, pooling or {}, piece.start)
                segments.append(
                    Segment(
                        start=piece.start,
                        end=piece.end,
                        emotion=prediction.emotion,
                        probabilities=prediction.probabilities,
                        attributes=prediction.attributes,
                        transcript=None if transcript is None else transcript.text,
                        heads=prediction.heads,
                        attention=attention,
                        words=words,
                        unsure=is_unsure(prediction.probabilities, self.min_confidence),
                        speaker=piece.speaker,
                    )
                )
        return segments

    def _classify(
        self, clips: Sequence[Extracted], speakers: Sequence[Hashable]
    ) -> list[_Prediction | None]:
        """Apply heads and stack to clips.

        None where a head's output is NaN or infinite: the stack would predict a class all the same.
        """
        outputs = [head.predict(inputs_of(head, clips), speakers) for head in self._heads]
        finite = np.ones(len(clips), bool)
        for values in (values for output in outputs for values in output.values()):
            finite &= np.isfinite(values).all(axis=1)
        outputs = [{name: np.nan_to_num(v) for name, v in output.items()} for output in outputs]
        by_head = dict(zip(self.heads, outputs, strict=True))
        none = [np.empty((len(clips), 0), np.float32)]
        classifiers = self._table.classifiers
        logits = np.concatenate([*none, *(by_head[n]["logits"] for n in classifiers)], axis=1)
        ratings = [output["attributes"] for output in outputs if "attributes" in output]
        predicted = np.concatenate([*none, *ratings], axis=1)
        alone = {name: softmax(by_head[name]["logits"]) for name in classifiers}
        if self.stack is not None:
            prediction = self.stack.predict(Rows.new(logits, predicted))
            chosen, probability = prediction.chosen, prediction.probability
            attributes = prediction.attributes
        else:
            probability = next(iter(alone.values()), None)
            chosen = None if probability is None else probability.argmax(axis=1)
            attributes = predicted if self.attributes else None
        return [
            _Prediction(
                emotion=None if chosen is None else self.classes[int(chosen[i])],
                probabilities=_by_name(self.classes, probability, i),
                attributes=_by_name(self.attributes, attributes, i),
                heads={name: _by_name(self.classes, p, i) for name, p in alone.items()},
            )
            if finite[i]
            else None
            for i in range(len(clips))
        ]


def _speaker(clip: Clip, piece: Piece, one_speaker: bool) -> Hashable:
    """Return what is equal for the pieces of one speaker; a speaker of turns is one of a clip."""
    if one_speaker:
        return None
    return id(piece) if piece.speaker is None else (id(clip), piece.speaker)


def _by_name(names: Sequence[str], values: np.ndarray | None, row: int) -> dict[str, float]:
    return {} if values is None else dict(zip(names, values[row].tolist(), strict=True))


def _require_result(result: Result | Failure) -> Result:
    if isinstance(result, Failure):
        if not result.path and result.error.endswith("."):  # a sentence with its remedy
            raise UserError(result.error)
        raise UserError(f"{result.path or 'the clip'}: {result.error}; give another clip.")
    return result
