"""Features of clips in memory: the extraction of `ser.extract.run` without a corpus or a cache.

1. Take the features that the heads read and the transcripts that those need; group features that
   share a pass of one model.
2. Load each model once, with the first clip, and check that the heads were trained on it.
3. Extract within the budget of frames, in batches of similar size. A failure belongs to its clip.
4. Round frames as the cache does, so that the heads read what they read in their run.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from ser.cache.files import fingerprint
from ser.cache.precision import Encoded, encode
from ser.cache.transcripts import Transcript
from ser.corpus.errors import UserError
from ser.extract.batch import prepared, robustly
from ser.extract.device_memory import default_frame_budget, plan
from ser.extract.devices import choose_device
from ser.extract.extractor import TRANSCRIPT, Extractor, FeatureOptions, build_extractor
from ser.extract.job import options_spec
from ser.extract.loading import load
from ser.extract.models import Weights, resolve
from ser.extract.passes import joined, passes


@dataclass(frozen=True)
class Extracted:
    """The features of one clip by name: frames as the cache stores them, and words."""

    frames: dict[str, Encoded] = field(default_factory=dict)
    words: dict[str, Transcript] = field(default_factory=dict)


@dataclass(frozen=True)
class _Pass:
    names: Sequence[str]
    parts: Mapping[str, Extractor]
    extractor: Extractor
    of: str | None  # the transcripts that it reads


class LiveFeatures:
    """The extraction of the named features of any clip.

    `trained_on` are the fingerprints of the features that the heads were trained on; `find` locates
    the weights of a model. Raises `UserError` for a feature that cannot be extracted from audio.
    """

    def __init__(
        self,
        options: Mapping[str, FeatureOptions],
        names: Iterable[str],
        trained_on: Mapping[str, str],
        device: str,
        find: Callable[[str], Weights] = resolve,
    ) -> None:
        self.options, self.trained_on, self._device = options, trained_on, device
        self._find = find
        self.names = _with_transcripts(options, names)
        self._passes: list[_Pass] | None = None

    @cached_property
    def device(self) -> str:
        """Return where the models run; `auto` imports torch."""
        return choose_device(self._device)

    def load(self) -> list[_Pass]:
        """Load all models, once; raises `UserError` for an absent one or other weights."""
        if self._passes is None:
            weights = self.weights()
            loaded = []
            for group in passes(self.options, self.names):
                parts = {n: build_extractor(self.options[n], weights[n]) for n in group}
                extractor = joined(list(parts.values()))
                load(extractor, group[0], self.device)
                loaded.append(_Pass(group, parts, extractor, self.options[group[0]].words_of))
            self._passes = loaded
        return self._passes

    def weights(self) -> dict[str, Weights | None]:
        """Find every feature's weights; they and the options must be those of the heads."""
        weights: dict[str, Weights | None] = {}
        models: dict[str, Weights] = {}
        prints: dict[str, str] = {}
        for name in self.names:
            options = self.options[name]
            spec = options_spec(options, prints.get(options.words_of or ""))
            weights[name] = None
            if (model := options.weights) is not None:
                if model not in models:  # hashing the weights takes time
                    models[model] = self._find(model)
                weights[name] = models[model]
                spec["weights"] = models[model].digest
            prints[name] = fingerprint(spec)
            if self.trained_on.get(name, prints[name]) != prints[name]:
                raise UserError(
                    f"features.{name}: the model or its options are not those that the heads were "
                    "trained on; use the same weights and options, or train the heads again."
                )
        return weights

    def extract(self, waves: Sequence[np.ndarray]) -> list[Extracted | str]:
        """Return the features of each waveform `(samples,)` at 16 kHz, or why there are none."""
        clips = [Extracted() for _ in waves]
        failed: dict[str, str] = {}
        for one in self.load():
            inputs: dict[str, np.ndarray | str] = {}
            for i, wave in enumerate(waves):
                if str(i) not in failed:
                    inputs[str(i)] = wave if one.of is None else clips[i].words[one.of].text
            sizes = {key: len(given) for key, given in inputs.items()}
            for batch in plan(one.extractor, sizes, default_frame_budget(self.device)):
                given = [inputs[key] for key in batch]
                keys, ready = prepared(one.extractor, batch, given, failed)
                for key, result in robustly(one.extractor, keys, ready, failed):
                    parts = result if len(one.names) > 1 else (result,)
                    try:
                        self._keep(clips[int(key)], dict(zip(one.names, parts, strict=True)))
                    except ValueError as error:
                        failed[key] = str(error)
        return [failed.get(str(i), clip) for i, clip in enumerate(clips)]

    def _keep(self, clip: Extracted, results: Mapping[str, Transcript | np.ndarray]) -> None:
        for name, result in results.items():
            if isinstance(result, Transcript):
                clip.words[name] = result
            else:
                clip.frames[name] = encode(result, self.options[name].precision)

    def frame_rate(self, name: str) -> float | None:
        """Return the frames a second of a feature, None for the tokens of a text."""
        return self._part(name).frame_rate

    def tokens(self, name: str, clip: Extracted) -> tuple[str, list[tuple[int, int]]]:
        """Return the text of a text feature, and the span of characters of each frame."""
        text = clip.words[self.options[name].words_of or ""].text
        offsets = getattr(self._part(name), "offsets", None)
        return text, [] if offsets is None else offsets(text)

    def _part(self, name: str) -> Extractor:
        return next(one.parts[name] for one in self.load() if name in one.parts)


def _with_transcripts(options: Mapping[str, FeatureOptions], names: Iterable[str]) -> list[str]:
    """Return the named features and the transcripts that they read, transcripts first."""
    ordered: list[str] = []
    for name in names:
        if name not in options:
            raise UserError(
                f"features.{name}: a head reads it, but the run's pipeline.yaml no longer has it; "
                "run `ser heads train-all` with the current file."
            )
        if options[name].kind == "imported":
            raise UserError(
                f"features.{name}: it was imported, so it cannot be extracted from other audio; "
                "choose a head that does not read it with `--head`."
            )
        of = options[name].words_of
        if of == TRANSCRIPT:
            raise UserError(
                f"features.{name}: it reads the transcripts of the corpus, and other audio has "
                "none; choose another head with `--head`, or train one on a feature of kind asr."
            )
        if of is not None and options[of].kind == "imported_transcripts":
            raise UserError(
                f"features.{of}: its transcripts were imported, and other audio has none; choose "
                "another head with `--head`, or train one on a feature of kind asr."
            )
        ordered += [of, name] if of else [name]
    return sorted(dict.fromkeys(ordered), key=lambda name: options[name].words_of is not None)
