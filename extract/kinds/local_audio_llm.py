"""Class scores of an audio language model on this machine, for the audio of each clip.

`MODELS` lists those that it runs. The question is that of `kind: audio_llm`, and the result, too:
a frame of log-probabilities of the classes, zero-shot. Here they are exact:

    answer: letter    of each letter as the next token, with or without a space before it
    answer: word      of each name and the end of the answer, token by token (teacher forcing), as
                      in Brown et al. 2020, "Language Models are Few-Shot Learners", section 2.4;
                      one run of the model for each class

`reasoning: n` lets a model write up to n tokens that end with `</think>` first, and scores the
classes behind them; a model that answers without any is scored at once.
"""

from collections.abc import Hashable, Sequence
from typing import ClassVar

import numpy as np
from pydantic import Field

from ser.corpus.errors import UserError, listed
from ser.extract.encoding import groups, model_type_of
from ser.extract.extractor import Extractor, FeatureOptions, extractor
from ser.extract.kinds.audio_llm import LONGEST, PROMPT, require_short
from ser.extract.kinds.chat_options import QuestionOptions

MODELS = {  # class of transformers, and the longest clip in seconds
    "qwen2_audio": ("qwen2_audio.Qwen2AudioForConditionalGeneration", 30.0),
    "audioflamingo3": ("audioflamingo3.AudioFlamingo3ForConditionalGeneration", LONGEST),
    "qwen2_5_omni": ("qwen2_5_omni.Qwen2_5OmniThinkerForConditionalGeneration", LONGEST),
    "qwen3_omni_moe": ("qwen3_omni_moe.Qwen3OmniMoeThinkerForConditionalGeneration", LONGEST),
    "voxtral": ("voxtral.VoxtralForConditionalGeneration", LONGEST),
    "granite_speech": ("granite_speech.GraniteSpeechForConditionalGeneration", LONGEST),
}


class LocalAudioLLMOptions(QuestionOptions):
    """Options of `kind: local_audio_llm`; a clip of more than `longest` seconds fails."""

    model: str  # short name, hub id or folder
    prompt: str = Field(PROMPT, max_length=20_000)
    longest: float = Field(default=30.0, gt=0, le=LONGEST)


@extractor("local_audio_llm")
class LocalAudioLLM(Extractor):
    """Score the classes of each clip by the log-probabilities of their letters or names."""

    Options: ClassVar[type[FeatureOptions]] = LocalAudioLLMOptions
    frame_rate = None  # one frame for a clip

    def load(self, device: str) -> None:
        """Load the model and its processor; raises `UserError` for another model."""
        from ser.extract.kinds.local_audio_llm_model import AnswerScorer

        assert self.weights is not None
        options, folder = self.options, self.weights.folder
        model_type = model_type_of(options.model, folder)
        if model_type not in MODELS:
            raise UserError(
                f"{options.model}: a {model_type[:40]} model cannot be run by "
                f"`kind: local_audio_llm`, only those of type {listed(MODELS)}; serve it and use "
                "`kind: audio_llm`."
            )
        cls, longest = MODELS[model_type]
        if options.longest > longest:
            raise ValueError(f"longest: {options.model} takes at most {longest:g} s")
        self.item_shape = (len(options.classes),)
        self._scorer = AnswerScorer(options, cls, folder, device)

    def batch_key(self, size: int) -> Hashable:
        """Return the length: prompts of one batch are equally long, so that nothing is padded."""
        return size

    def extract(self, batch: Sequence[np.ndarray]) -> list[np.ndarray | ValueError]:
        """Return the log-probabilities of each waveform `(samples,)` at 16 kHz: `(1, classes)`.

        A clip that is too long, or whose reasoning does not end, is a `ValueError` in its place.
        """
        frames: dict[int, np.ndarray | ValueError] = {}
        most = 1 if self.options.reasoning else len(batch)  # reasoning differs in length
        for rows in groups([len(wave) for wave in batch], most):
            frames |= dict(zip(rows, self._frames([batch[row] for row in rows]), strict=True))
        return [frames[row] for row in range(len(batch))]

    def _frames(self, waves: list[np.ndarray]) -> list[np.ndarray] | list[ValueError]:
        """Return the frames of waveforms of one length, or why they have none."""
        try:
            require_short(waves[0], self.options.longest)
            return [scores[None] for scores in self._scorer.scores(waves)]
        except ValueError as error:
            return [error] * len(waves)
