"""An encoder with a head on its frames: one module, from the model's inputs to logits."""

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import torch
from torch import nn

from ser.corpus.errors import UserError
from ser.extract.encoder import Encoder
from ser.extract.encoding import EncoderExtractor
from ser.extract.extractor import build_extractor, parse_options
from ser.extract.models import Weights
from ser.finetune.adapting import adapt, freeze
from ser.finetune.config import FineTuneConfig
from ser.heads.head import Features, Mix
from ser.heads.inputs import Prepared


class FineTuned(nn.Module):
    """An encoder and a head on its frames.

    `features` map the one name to `(inputs, sizes)` as `Encoder.forward` takes them. An encoder of
    which nothing is trained runs without gradients and without dropout.
    """

    def __init__(
        self, name: str, config: FineTuneConfig, encoder: Encoder, head: nn.Module
    ) -> None:
        super().__init__()
        self.name, self.config, self.encoder, self.head = name, config, encoder, head
        self._adapted: tuple[Any, ...] = ()  # a tuple, so that the model is not registered twice
        freeze(encoder, config)
        if config.lora is not None:
            self._adapted = (adapt(encoder, config.model, config.lora),)
        self._learns = any(p.requires_grad for p in encoder.parameters())
        if config.checkpointing and self._learns:
            with warnings.catch_warnings():  # that transformers 6 will call it otherwise
                warnings.simplefilter("ignore", FutureWarning)
                encoder.model.gradient_checkpointing_enable({"use_reentrant": False})

    @classmethod
    def build(
        cls, name: str, config: FineTuneConfig, weights: Weights, outputs: Mapping[str, int]
    ) -> Self:
        """Load the encoder and initialise a new head, by the seed.

        Raises `UserError` for a layer that the model does not have, and for quantized weights.
        """
        torch.manual_seed(config.training.seed)
        extractor = build_extractor(parse_options(config.as_feature(config.model)), weights)
        assert isinstance(extractor, EncoderExtractor)
        try:
            encoder = extractor.build_encoder("cpu", trained=True)
        except ValueError as error:
            raise UserError(f"finetune.{name}: {error}.") from error
        head = Prepared.build(config.training, {name: encoder.item_shape}, outputs)
        return cls(name, config, encoder, head)

    def forward(self, features: Features, *mix: Mix) -> dict[str, torch.Tensor]:
        """Return the outputs of the head."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and self._learns):
            frames = self.encoder(*features[self.name])
        outputs: dict[str, torch.Tensor] = self.head({self.name: frames}, *mix)
        return outputs

    def train(self, mode: bool = True) -> Self:
        """Set the mode; fully frozen modules, and batch norms, stay in evaluation mode."""
        super().train(mode)
        if not self._learns:
            self.encoder.eval()
        for module in self.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval()  # otherwise a clip depends on its batch
        return self

    def merge(self, adapter: Path | None = None) -> None:
        """Merge the adapters into the model's weights; save them to `adapter` first."""
        for wrapper in self._adapted:
            if adapter is not None:
                wrapper.save_pretrained(adapter)
            self.encoder.model = wrapper.merge_and_unload()
        self._adapted = ()
