"""Features of clips in memory: what `extract.run` does, without a corpus and without a cache.

1. Take the features that the heads read and the transcripts that those read; group what shares a
   pass of one model.
2. Load each model once, when the first clip comes, and see that it is the one the heads learned on.
3. Extract within the budget of frames, in batches of like size. What fails is said of its clip.
4. Round frames as the cache does, so that the heads see what they saw in their run.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from cache.files import fingerprint
from cache.precision import Encoded, encode
from cache.transcripts import Transcript
from corpus.errors import UserError
from extract.extractor import Extractor, FeatureOptions, extractor_class, weights_of
from extract.loop import robustly
from extract.models import Weights, resolve
from extract.run import FRAME_BUDGET, TRANSCRIPT, described_options, joined, load, passes, plan


@dataclass(frozen=True)
class Extracted:
    """Hold the features of one clip by name: frames as the cache keeps them, and words."""

    frames: dict[str, Encoded] = field(default_factory=dict)
    words: dict[str, Transcript] = field(default_factory=dict)


@dataclass(frozen=True)
class _Pass:
    names: Sequence[str]
    parts: Mapping[str, Extractor]
    extractor: Extractor
    of: str | None  # the transcripts that it reads


class LiveFeatures:
    """Extract the named features of any clip.

    `made_of` are the fingerprints that the heads were trained on; `find` is what finds a model's
    weights. Raises `UserError` for a feature that own audio has no way to.
    """

    def __init__(
        self,
        options: Mapping[str, FeatureOptions],
        names: Iterable[str],
        made_of: Mapping[str, str],
        device: str,
        find: Callable[[str], Weights] = resolve,
    ) -> None:
        self.options, self.made_of, self.device = options, made_of, device
        self._find = find
        self.names = _with_transcripts(options, names)
        self._passes: list[_Pass] | None = None

    def load(self) -> list[_Pass]:
        """Load all models, once; raises `UserError` when one is absent, or not the one it was."""
        if self._passes is None:
            weights = self.weights()
            found = []
            for group in passes(self.options, self.names):
                parts = {name: self._extractor(name, weights[name]) for name in group}
                extractor = joined(list(parts.values()))
                load(extractor, group[0], self.device)
                found.append(_Pass(group, parts, extractor, _of(self.options[group[0]])))
            self._passes = found
        return self._passes

    def _extractor(self, name: str, weights: Weights | None) -> Extractor:
        return extractor_class(self.options[name].kind)(self.options[name], weights)

    def weights(self) -> dict[str, Weights | None]:
        """Find every feature's weights; they and the options must be those of the heads."""
        found: dict[str, Weights | None] = {}
        models: dict[str, Weights] = {}
        prints: dict[str, str] = {}
        for name in self.names:
            options = self.options[name]
            spec = described_options(options, prints.get(_of(options) or ""))
            found[name] = None
            if (model := weights_of(options)) is not None:
                if model not in models:  # each has a digest of its weights to be taken
                    models[model] = self._find(model)
                found[name] = models[model]
                spec["weights"] = models[model].digest
            prints[name] = fingerprint(spec)
            if self.made_of.get(name, prints[name]) != prints[name]:
                raise UserError(
                    f"features.{name}: the model or its options are not those that the heads were "
                    "trained on; give the same weights, or train the heads again."
                )
        return found

    def extract(self, waves: Sequence[np.ndarray]) -> list[Extracted | str]:
        """Return the features of each waveform `(samples,)` at 16 kHz, or why there are none."""
        found = [Extracted() for _ in waves]
        failed: dict[str, str] = {}
        for one in self.load():
            inputs: dict[str, Any] = {}
            for i, wave in enumerate(waves):
                if str(i) not in failed:
                    inputs[str(i)] = wave if one.of is None else found[i].words[one.of].text
            sizes = {key: len(given) for key, given in inputs.items()}
            for batch in plan(one.extractor, sizes, FRAME_BUDGET[self.device]):
                given = [inputs[key] for key in batch]
                for key, result in robustly(one.extractor, batch, given, failed):
                    parts = result if len(one.names) > 1 else (result,)
                    try:
                        for name, part in zip(one.names, parts, strict=True):
                            self._keep(found[int(key)], name, part)
                    except ValueError as error:
                        failed[key] = str(error)
        return [failed.get(str(i), each) for i, each in enumerate(found)]

    def _keep(self, found: Extracted, name: str, result: Any) -> None:
        if isinstance(result, Transcript):
            found.words[name] = result
        else:
            found.frames[name] = encode(result, self.options[name].precision)

    def frame_rate(self, name: str) -> float | None:
        """Return the frames a second of a feature, None for the tokens of a text."""
        return self._part(name).frame_rate

    def tokens(self, name: str, clip: Extracted) -> tuple[str, list[tuple[int, int]]]:
        """Return the text of a text feature, and the characters that each frame is of."""
        extractor: Any = self._part(name)
        text = clip.words[self.options[name].of].text  # type: ignore[attr-defined]
        return text, extractor.offsets(text) if hasattr(extractor, "offsets") else []

    def _part(self, name: str) -> Extractor:
        return next(one.parts[name] for one in self.load() if name in one.parts)


def _of(options: FeatureOptions) -> str | None:
    return getattr(options, "of", None)


def _with_transcripts(options: Mapping[str, FeatureOptions], names: Iterable[str]) -> list[str]:
    """Return the named features, what they read put before them."""
    ordered: list[str] = []
    for name in names:
        if name not in options:
            raise UserError(
                f"features.{name}: a head reads it and the run's pipeline.yaml has it no more; run "
                "`ser heads train` again with the file as it is."
            )
        if options[name].kind == "imported":
            raise UserError(
                f"features.{name}: it was imported, and nothing here can make it of other audio; "
                "choose a head that does not read it with `--head`."
            )
        of = _of(options[name])
        if of == TRANSCRIPT:
            raise UserError(
                f"features.{name}: it reads the transcripts of the corpus, and other audio has "
                "none; choose another head with `--head`, or train one on a feature of kind asr."
            )
        ordered += [of, name] if of else [name]
    return sorted(dict.fromkeys(ordered), key=lambda name: _of(options[name]) is not None)
