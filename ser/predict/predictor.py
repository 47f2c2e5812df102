"""A run that was trained, asked about any audio.

    import ser
    p = ser.load("runs/demo")
    p("clip.wav").emotion

1. Read the run's pipeline.yaml, the stack and its heads (or one head); nothing else is needed.
2. Decode clips in threads, cut those that are long, and put pieces together up to two minutes.
3. Extract what the heads read, ask every head, ask the stack: the code of the stages, so that a
   clip gets the probabilities that it got in its run.

Any thread may ask: models are used by one at a time, decoding is not held up.
"""

import threading
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, overload

import numpy as np

from corpus.audio import AudioError
from corpus.errors import UserError
from extract.extractor import choose_device
from extract.models import resolve
from extract.run import FRAME_BUDGET
from heads.job import read_done
from heads.trained import TrainedHead
from score.heads import softmax
from ser.pipeline import Pipeline
from ser.predict import explain as explaining
from ser.predict.bundle import open_bundle
from ser.predict.clips import Clip, Cut, Cutting, Piece, Source, ahead, open_clip
from ser.predict.features import Extracted, LiveFeatures
from ser.predict.result import Failure, Result, Segment, join
from stack.run import load as load_stack
from stack.run import stacked_heads
from stack.table import LogitTable, Rows

FRAMES_A_SECOND = 50


class Predictor:
    """Ask a run's stack about audio, or one of its heads; see `ser.load`.

    `run` is its folder, or a bundle of it. `classes` and `attributes` are what it tells, `heads`
    the names of those that are asked, `stack` is None for a head alone. Raises `UserError` for a
    run that is not whole.
    """

    def __init__(self, run: str | Path, head: str | None = None, device: str = "auto") -> None:
        bundle = open_bundle(run) if Path(run).is_file() else None
        self.run = bundle.folder if bundle else Path(run)
        self.device = choose_device(device)
        self.pipeline = bundle.pipeline() if bundle else _pipeline(self.run)
        stacked = head is None and (self.run / "stack" / "stack.json").is_file()
        names = stacked_heads(self.run) if stacked else [head or best_head(self.run)]
        folder = self.run / "heads"
        self._heads = [TrainedHead.load(folder / name, self.device) for name in names]
        table = LogitTable.without_rows(
            folder,
            {each.name: each.fingerprint for each in self._heads},
            self._heads[0].classes,
            [each.name for each in self._heads if each.classifies],
            {each.name: each.attributes for each in self._heads},
        )
        self.heads, self.attributes = tuple(names), table.attributes
        self.classes = table.classes if table.tellers else ()
        self.stack = load_stack(self.run, table) if stacked else None
        self._table = table
        made_of = {f: mark for each in self._heads for f, mark in each.made_of.items()}
        find = bundle.weights if bundle else resolve
        features = dict(self.pipeline.features) | self.pipeline.finetuned
        self.features = LiveFeatures(features, made_of, made_of, self.device, find)
        self._lock = threading.Lock()

    def load(self) -> None:
        """Load every model now, and not at the first clip."""
        with self._lock:
            self.features.load()

    @overload
    def __call__(self, clips: Source, **options: Any) -> Result: ...

    @overload
    def __call__(self, clips: Sequence[Source], **options: Any) -> list[Result]: ...

    @overload
    def __call__(self, clips: Iterator[Source], **options: Any) -> Iterator[Result]: ...

    def __call__(self, clips: Any, **options: Any) -> Result | list[Result] | Iterator[Result]:
        """Return a result of one clip, a list of a list's, a generator of any other iterable's.

        A clip is a path, or an array `(samples,)` or `(samples, channels)` with its rate. The
        options are those of `each`. Raises `UserError` for a clip that nothing can be said of.
        """
        if isinstance(clips, str | Path) or _is_array(clips):
            return _answered(next(self.each([clips], **options)))
        results = map(_answered, self.each(clips, **options))
        return list(results) if isinstance(clips, Sequence) else results

    def each(
        self,
        clips: Iterable[Source],
        *,
        timeline: bool = False,
        explain: bool = False,
        one_speaker: bool = False,
        cut: Cut = "auto",
        window: float = 10.0,
        hop: float = 5.0,
    ) -> Iterator[Result | Failure]:
        """Yield a result of each clip in order, a failure of one that cannot be used.

        `timeline` cuts short clips too; `cut`, `window` and `hop` (s) say how long ones are, see
        `ser.predict.clips`. `explain` adds where the heads looked. `one_speaker` says that one
        person speaks in all clips, for heads with `normalize: speaker`, and holds them all in
        memory; without it such a head compares each piece with itself alone.

        Clips are put together up to two minutes of audio, so the first result of many comes when
        that much has been read. Raises `UserError` for what is no clip, or a model that is absent.
        """
        cutting = Cutting(timeline, cut, window, hop)
        room = float("inf") if one_speaker else FRAME_BUDGET[self.device] / FRAMES_A_SECOND
        waiting: list[tuple[Clip, Piece | None]] = []
        found: dict[int, list[Segment]] = {}
        for clip, piece in _pieces(ahead(lambda source: open_clip(source, cutting), clips)):
            waiting.append((clip, piece))
            seconds = sum(p.end - p.start for _, p in waiting if p is not None)
            if seconds >= room:
                yield from self._finished(waiting, found, explain, one_speaker)
                waiting = []
        yield from self._finished(waiting, found, explain, one_speaker)

    def _finished(
        self,
        entries: Sequence[tuple[Clip, Piece | None]],
        found: dict[int, list[Segment]],
        explain: bool,
        one_speaker: bool,
    ) -> Iterator[Result | Failure]:
        """Answer for pieces; yield what is said of each clip whose last piece is among them."""
        pieces = [piece for _, piece in entries if piece is not None]
        answers = iter(self._answer(pieces, explain, one_speaker) if pieces else [])
        for clip, piece in entries:
            if piece is not None:
                answer = next(answers)
                if isinstance(answer, str):
                    clip.error = clip.error or answer
                else:
                    found.setdefault(id(clip), []).append(answer)
                continue
            segments = found.pop(id(clip), [])
            if segments and not clip.damaged:
                yield join(clip.path, clip.seconds, segments)
            else:
                yield Failure(clip.path, clip.error or "no speech was found")

    def _answer(
        self, pieces: Sequence[Piece], explain: bool, one_speaker: bool
    ) -> list[Segment | str]:
        """Return what is heard in each piece, or why nothing is."""
        with self._lock:
            extracted = self.features.extract([piece.wave for piece in pieces])
            good = [i for i, each in enumerate(extracted) if isinstance(each, Extracted)]
            clips = [each for each in extracted if isinstance(each, Extracted)]
            said = self._ask(clips, one_speaker) if clips else []
            looked = self._looked(clips, one_speaker) if explain and clips else []
            answers: list[Segment | str] = [e if isinstance(e, str) else "" for e in extracted]
            for row, (i, clip) in enumerate(zip(good, clips, strict=True)):
                more = self._explained(clip, looked[row], pieces[i].start) if looked else {}
                words = next(iter(clip.words.values()), None)
                answers[i] = Segment(
                    start=pieces[i].start,
                    end=pieces[i].end,
                    transcript=None if words is None else words.text,
                    **said[row],
                    **more,
                )
        return answers

    def _ask(self, clips: Sequence[Extracted], one_speaker: bool) -> list[dict[str, Any]]:
        """Return emotion, probabilities, attributes and heads of each clip."""
        outputs = [head.ask(_read_by(head, clips), one_speaker) for head in self._heads]
        named = dict(zip(self.heads, outputs, strict=True))
        none = [np.empty((len(clips), 0), np.float32)]
        logits = np.concatenate([*none, *(named[n]["logits"] for n in self._table.tellers)], axis=1)
        rated = [out["attributes"] for out in outputs if "attributes" in out]
        predicted = np.concatenate([*none, *rated], axis=1)
        alone = {name: softmax(named[name]["logits"]) for name in self._table.tellers}
        if self.stack is not None:
            answer = self.stack.ask(Rows.new(logits, predicted))
            chosen, probability = answer.chosen, answer.probability
            attributes = answer.attributes
        else:
            probability = next(iter(alone.values()), None)
            chosen = None if probability is None else probability.argmax(axis=1)
            attributes = predicted if self.attributes else None
        return [
            {
                "emotion": None if chosen is None else self.classes[int(chosen[i])],
                "probabilities": _named(self.classes, probability, i),
                "attributes": _named(self.attributes, attributes, i),
                "heads": {name: _named(self.classes, p, i) for name, p in alone.items()},
            }
            for i in range(len(clips))
        ]

    def _looked(
        self, clips: Sequence[Extracted], one_speaker: bool
    ) -> list[dict[str, list[tuple[np.ndarray, int]]]]:
        """Return of each clip, by feature, the weights of every head's pooling, and its stride."""
        found: list[dict[str, list[tuple[np.ndarray, int]]]] = [{} for _ in clips]
        for head in self._heads:
            strides = {use.name: use.stride for use in head.config.features}
            for name, weights in head.looked(_read_by(head, clips), one_speaker).items():
                for row, of_clip in zip(found, weights, strict=True):
                    row.setdefault(name, []).append((of_clip, strides[name]))
        return found

    def _explained(
        self, clip: Extracted, looked: dict[str, list[tuple[np.ndarray, int]]], start: float
    ) -> dict[str, Any]:
        frames = {name: len(clip.frames[name].data) for name in looked}
        rates = {name: self.features.frame_rate(name) for name in looked}
        attention = explaining.attention(looked, frames, rates, start)
        texts = [name for name in looked if rates[name] is None]
        if not texts:
            return {"attention": attention}
        told = [(attention[name].weights, self.features.tokens(name, clip)) for name in texts]
        said = next(iter(clip.words.values()))
        tokens = [(weights, offsets) for weights, (text, offsets) in told if text == said.text]
        return {
            "attention": attention,
            "words": explaining.word_weights(said.text, tokens, said, start),
        }


def best_head(run: Path) -> str:
    """Name the head with the best dev score: macro-F1 where there is any, else what it has.

    Raises `UserError` when no head is trained.
    """
    done = {p.name: read_done(run, p.name) for p in sorted((run / "heads").glob("*"))}
    scores = {
        name: (said["dev"].get("dev_macro_f1", -1.0), said["score"] or 0.0)
        for name, said in done.items()
        if said
    }
    if not scores:
        raise UserError(f"{run}: no head is trained in it; run `ser run`, or give another folder.")
    return max(scores, key=lambda name: scores[name])


def _pipeline(run: Path) -> Pipeline:
    path = run / "pipeline.yaml"
    if not path.is_file():
        raise UserError(
            f"{run}: it is no run, there is no pipeline.yaml in it; give the folder that `run:` "
            "names, as runs/demo."
        )
    pipeline = Pipeline.load(path)
    if not Path(str(pipeline.raw["run"])).is_absolute():
        raise UserError(
            f"{path}: its paths are relative, as an older version wrote them; run `ser stack fit` "
            "once with the pipeline that this run was made by."
        )
    return pipeline


def _pieces(clips: Iterable[Clip]) -> Iterator[tuple[Clip, Piece | None]]:
    """Yield the pieces of each clip and, when it is read, None."""
    for clip in clips:
        try:
            for piece in clip.pieces:
                yield clip, piece
        except AudioError as error:
            clip.error, clip.damaged = str(error), True
        yield clip, None


def _read_by(head: TrainedHead, clips: Sequence[Extracted]) -> dict[str, list[Any]]:
    return {name: [clip.frames[name] for clip in clips] for name in head.config.feature_names}


def _named(names: Sequence[str], values: np.ndarray | None, row: int) -> dict[str, float]:
    return {} if values is None else dict(zip(names, values[row].tolist(), strict=True))


def _is_array(clips: Any) -> bool:
    return isinstance(clips, tuple) and len(clips) == 2 and isinstance(clips[0], np.ndarray)


def _answered(result: Result | Failure) -> Result:
    if isinstance(result, Failure):
        raise UserError(f"{result.path or 'the array'}: {result.error}; give another clip.")
    return result
