"""The models of `bench.gpu`: published architectures at their true sizes, with random weights.

The sizes are those of the config.json that each model is published with. Whisper has one layer of
its decoder, which frames do not need. `tiny` writes the stand-ins of `ser smoke` instead.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModel, AutoTokenizer

from ser.extract.encoding import dtype_on
from ser.extract.testing import TEXTS
from ser.synthetic.models import tiny_model

BERT_LARGE: dict[str, Any] = {
    "hidden_size": 1024,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "intermediate_size": 4096,
}
SPEECH: dict[str, Any] = {  # of wav2vec 2.0's descendants, the large ones
    "conv_dim": (512,) * 7,
    "num_conv_pos_embeddings": 128,
    "num_conv_pos_embedding_groups": 16,
}


@dataclass(frozen=True)
class Model:
    """A model: its feature's kind and options, and the sizes of its config."""

    name: str
    kind: str
    hub: str
    sizes: Mapping[str, Any]
    options: Mapping[str, Any] = field(default_factory=dict)

    def write(self, root: Path, device: str, tiny: bool) -> Path:
        """Write weights, and tokenizer or preprocessor, to a folder in `root`; return it.

        The weights are drawn on the device, in the type in which they will be loaded.
        """
        folder = tiny_model(self.kind, self.hub, root / self.name, TEXTS)
        if tiny or not self.sizes:
            return folder
        self.build(folder, device).save_pretrained(folder)
        if self.kind == "text":
            tokenizer = AutoTokenizer.from_pretrained(folder)
            tokenizer.model_max_length = 512
            tokenizer.save_pretrained(folder)
        return folder

    def build(self, folder: Path, device: str) -> Any:
        """Return the model of true sizes, of the architecture of the tiny one in a folder."""
        config = AutoConfig.from_pretrained(folder)
        config.update(dict(self.sizes))
        torch.manual_seed(0)
        with torch.device(device):
            return AutoModel.from_config(config, dtype=dtype_on(device))

    def entry(self, folder: Path, tiny: bool) -> dict[str, Any]:
        """Return the entry of `features:`; tiny text models take fewer tokens."""
        options = dict(self.options)
        if tiny and "pad_to" in options:
            options["pad_to"] = 32
        return {"kind": self.kind, "model": str(folder), **options}


WHISPER_HUB = "openai/whisper-large-v3"
WHISPER: dict[str, Any] = {
    "d_model": 1280,
    "encoder_layers": 32,
    "encoder_attention_heads": 20,
    "encoder_ffn_dim": 5120,
    "decoder_layers": 1,
    "decoder_attention_heads": 20,
    "decoder_ffn_dim": 5120,
    "num_mel_bins": 128,
    "init_std": 0.02,
}
WAVLM_LARGE = Model("wavlm-large", "speech", "microsoft/wavlm-large", BERT_LARGE | SPEECH)
MODELS = (
    Model("whisper-large-v3, full", "whisper", WHISPER_HUB, WHISPER, {"window": "full"}),
    Model("whisper-large-v3, trim", "whisper", WHISPER_HUB, WHISPER, {"window": "trim"}),
    Model(
        "hubert-xlarge",
        "speech",
        "facebook/hubert-xlarge-ls960-ft",
        SPEECH
        | {
            "hidden_size": 1280,
            "num_hidden_layers": 48,
            "num_attention_heads": 16,
            "intermediate_size": 5120,
        },
    ),
    WAVLM_LARGE,
    Model(
        "roberta-large",
        "text",
        "FacebookAI/roberta-large",
        BERT_LARGE | {"vocab_size": 50_265, "max_position_embeddings": 514},
        {"of": "transcript", "pad_to": 80},
    ),
    Model(
        "deberta-v2-xxlarge",
        "text",
        "microsoft/deberta-v2-xxlarge",
        {
            "vocab_size": 128_100,
            "hidden_size": 1536,
            "num_hidden_layers": 48,
            "num_attention_heads": 24,
            "intermediate_size": 6144,
            "max_position_embeddings": 512,
            "position_buckets": 256,
            "conv_kernel_size": 3,
            "conv_act": "gelu",
        },
        {"of": "transcript", "pad_to": 80},
    ),
    Model("facodec", "facodec", "facodec", {}),  # its sizes are fixed
)
