"""The part of NaturalSpeech 3's FACodec (v2) that encodes prosody and speaker.

Ju et al. 2024, "NaturalSpeech 3: Zero-Shot Speech Synthesis with Factorized Codec and Diffusion
Models"; the layout of the published `amphion/naturalspeech3_facodec`. From a 16 kHz waveform:

    prosody   log-mel (20 lowest of 80) -> linear -> transformer -> nearest of 1,024 codes, 256
    timbre    strided convolutions (hop 200) -> transformer, 256

Attributes carry the names of the official state dicts (`ser.extract.kinds.facodec_weights`). The
mel filters, the window and the positional row are constants of the definition: they are computed,
never read.

All is fp32. Codes are discrete: where two are about equally near, the rounding of bf16, fp16 or
TF32 picks another one, and the feature jumps to it instead of moving a little.
"""

from collections import OrderedDict
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import (
    conv1d,
    conv_transpose1d,
    linear,
    normalize,
    pad,
    scaled_dot_product_attention,
)

from ser.extract.extractor import SAMPLE_RATE
from ser.extract.kinds.own_model import OwnModel

HOP = 200
FFT, WINDOW = 1024, 800
BANDS = 20  # of 80: up to 780 Hz
DIM, HEADS = 256, 4
STRIDES = (2, 4, 5, 5)
CHUNK = 400  # frames encoded at once: 5 s
REACH = 32  # frames that reach into another one, from either side, and a few to spare
PERIODIC = ("alpha", "beta")  # frequency and inverse height of SnakeBeta, as logarithms
EDGE = (FFT - HOP) // 2  # samples reflected at either end, so that frames = samples / HOP


class Activation(nn.Module):
    """Apply SnakeBeta, `x + sin(a x)^2 / b`, at twice the rate, so that its harmonics do not alias.

    Ziyin et al. 2020, "Neural Networks Fail to Learn Periodic Functions and How to Fix It"; the
    resampling of Karras et al. 2021 (StyleGAN3), a 12-tap low-pass either way.
    """

    TAPS = 12

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.act = nn.ParameterDict({k: torch.zeros(channels) for k in PERIODIC})
        self.upsample = nn.ParameterDict({"filter": torch.zeros(1, 1, self.TAPS)})
        self.downsample = nn.ModuleDict(
            {"lowpass": nn.ParameterDict({"filter": torch.zeros(1, 1, self.TAPS)})}
        )

    def forward(self, x: Tensor) -> Tensor:
        """Turn `(batch, channels, time)` into the same shape."""
        channels, edge = x.shape[1], self.TAPS // 2 - 1
        up, down = (
            self.get_parameter(f"{name}.filter").expand(channels, -1, -1)
            for name in ("upsample", "downsample.lowpass")
        )
        alpha, beta = (self.get_parameter(f"act.{name}").exp()[:, None] for name in PERIODIC)
        x = pad(x, (edge, edge), mode="replicate")
        # the gain of 2 makes up for the zeros in between; `padding` crops what the edges added
        x = conv_transpose1d(x, 2 * up, stride=2, padding=3 * edge, groups=channels)
        # in place: at full rate, memory costs as much time as arithmetic
        x = x.add_((alpha * x).sin_().square_().div_(beta + 1e-9))
        x = pad(x, (edge, edge + 1), mode="replicate")
        return conv1d(x, down, stride=2, groups=channels)


class Residual(nn.Module):
    """Add two activated convolutions to the input."""

    def __init__(self, channels: int, dilation: int) -> None:
        super().__init__()
        self.block = nn.Sequential(
            Activation(channels),
            nn.Conv1d(channels, channels, 7, dilation=dilation, padding=3 * dilation),
            Activation(channels),
            nn.Conv1d(channels, channels, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Turn `(batch, channels, time)` into the same shape."""
        out: Tensor = x + self.block(x)
        return out


def stage(channels: int, stride: int) -> nn.Sequential:
    """Return what turns `(batch, channels, time)` into `(batch, 2 * channels, time / stride)`."""
    block = nn.Sequential(
        *(Residual(channels, dilation) for dilation in (1, 3, 9)),
        Activation(channels),
        nn.Conv1d(channels, 2 * channels, 2 * stride, stride, padding=(stride + 1) // 2),
    )
    return nn.Sequential(OrderedDict(block=block))


class Encoder(nn.Module):
    """Encode a waveform at 80 frames a second.

    Long ones are encoded in chunks that overlap by the receptive field of a frame, which bounds the
    memory (40 MB per second) and changes no number.
    """

    def __init__(self, channels: int = 32) -> None:
        super().__init__()
        stages = [stage(channels * 2**i, stride) for i, stride in enumerate(STRIDES)]
        last = channels * 2 ** len(STRIDES)
        self.block = nn.Sequential(
            nn.Conv1d(1, channels, 7, padding=3),
            *stages,
            Activation(last),
            nn.Conv1d(last, DIM, 3, padding=1),
        )

    def forward(self, waves: Tensor) -> Tensor:
        """Turn `(batch, samples)`, a multiple of 200, into `(batch, 256, samples / 200)`."""
        frames = waves.shape[1] // HOP
        pieces = []
        for start in range(0, frames, CHUNK):
            first = max(0, start - REACH)
            window = waves[:, None, first * HOP : (start + CHUNK + REACH) * HOP]
            pieces.append(self.block(window)[..., start - first :][..., :CHUNK])
        return torch.cat(pieces, dim=-1)


class Layer(nn.Module):
    """One pre-norm transformer layer with a convolution in its feed-forward part."""

    def __init__(self) -> None:
        super().__init__()
        self.ln_1, self.ln_2 = nn.LayerNorm(DIM), nn.LayerNorm(DIM)
        self.self_attn = nn.MultiheadAttention(DIM, HEADS)
        self.ffn = nn.ModuleDict(
            {"ffn_1": nn.Conv1d(DIM, 1024, 5, padding=2), "ffn_2": nn.Linear(1024, DIM)}
        )

    def forward(self, x: Tensor) -> Tensor:
        """Turn `(batch, frames, 256)` into the same shape."""
        # the module itself would make all (frames, frames) weights: 37 GB for ten minutes
        attention = self.self_attn
        y = linear(self.ln_1(x), attention.in_proj_weight, attention.in_proj_bias)
        query, key, value = y.unflatten(-1, (3, HEADS, -1)).permute(2, 0, 3, 1, 4)
        y = scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)
        x = x + attention.out_proj(y)
        y = self.ffn["ffn_1"](self.ln_2(x).transpose(1, 2)).relu()
        out: Tensor = x + self.ffn["ffn_2"](y.transpose(1, 2))
        return out


class Transformer(nn.Module):
    """Four layers and a last norm."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Layer() for _ in range(4))
        self.last_ln = nn.LayerNorm(DIM)

    def forward(self, x: Tensor) -> Tensor:
        """Turn `(batch, frames, 256)` into the same shape."""
        # the published weights know one position only: their code looks up the sinusoids by index
        # in the batch, and row 0 of those is 0, 1, 0, 1, …
        x = x + torch.arange(DIM, device=x.device) % 2
        for layer in self.layers:
            x = layer(x)
        out: Tensor = self.last_ln(x)
        return out


class Codebook(nn.Module):
    """Quantize by cosine in 8 dimensions (Yu et al. 2022, "Improved VQGAN")."""

    def __init__(self, codes: int = 1024, dim: int = 8) -> None:
        super().__init__()
        self.in_proj, self.out_proj = nn.Linear(DIM, dim), nn.Linear(dim, DIM)
        self._codebook = nn.Embedding(codes, dim)

    def nearest(self, x: Tensor) -> Tensor:
        """Turn `(batch, frames, 256)` into codes `(batch, frames)` int64."""
        codebook = normalize(self._codebook.weight, dim=-1)
        return (normalize(self.in_proj(x), dim=-1) @ codebook.T).argmax(-1)

    def look_up(self, codes: Tensor) -> Tensor:
        """Turn codes `(batch, frames)` into `(batch, frames, 256)`."""
        out: Tensor = self.out_proj(self._codebook(codes))
        return out


class Decoder(nn.Module):
    """The parts of the codec's decoder that come before synthesis."""

    def __init__(self) -> None:
        super().__init__()
        self.melspec_linear = nn.Linear(BANDS, DIM)
        self.melspec_encoder = Transformer()
        prosody = nn.ModuleDict({"layers": nn.ModuleList([Codebook()])})
        self.quantizer = nn.ModuleList([prosody])
        self.timbre_encoder = Transformer()

    @property
    def codebook(self) -> Codebook:
        """The prosody quantizer's only codebook."""
        return cast(Codebook, self.get_submodule("quantizer.0.layers.0"))


class FACodec(OwnModel):
    """Turn waveforms into quantized prosody beside timbre frames."""

    mel_filters: Tensor
    window: Tensor

    def __init__(self, encoder: Encoder, decoder: Decoder) -> None:
        super().__init__()
        self.encoder, self.decoder = encoder, decoder
        self.register_buffer("mel_filters", _mel_filters(), persistent=False)
        self.register_buffer("window", torch.hann_window(WINDOW), persistent=False)

    def log_mel(self, waves: Tensor) -> Tensor:
        """Turn `(batch, samples)` into natural log-mels `(batch, 20, samples / 200)`."""
        edged = pad(waves, (EDGE, EDGE), mode="reflect")
        spectrum = torch.stft(
            edged, FFT, HOP, WINDOW, self.window, center=False, return_complex=True
        )
        power = spectrum.real.square() + spectrum.imag.square()
        return (self.mel_filters @ (power + 1e-9).sqrt()).clamp(min=1e-5).log()

    def prosody_codes(self, waves: Tensor) -> Tensor:
        """Turn `(batch, samples)` into codes `(batch, samples / 200)` int64."""
        x = self.decoder.melspec_linear(self.log_mel(waves).transpose(1, 2))
        return self.decoder.codebook.nearest(self.decoder.melspec_encoder(x))

    def forward(self, waves: Tensor) -> Tensor:
        """Turn `(batch, samples)`, all of one length, into `(batch, samples / 200, 512)`.

        Columns 0-255 are the prosody, 256-511 the timbre. The length is a multiple of 200 and over
        412, the reach of the reflection.
        """
        timbre = self.decoder.timbre_encoder(self.encoder(waves).transpose(1, 2))
        return torch.cat([self.decoder.codebook.look_up(self.prosody_codes(waves)), timbre], dim=-1)


def _mel_filters() -> Tensor:
    """Return the lowest of 80 Slaney filters between 0 and 8 kHz, `(20, 513)`."""
    from transformers.audio_utils import mel_filter_bank

    filters = mel_filter_bank(
        FFT // 2 + 1, 80, 0, SAMPLE_RATE / 2, SAMPLE_RATE, norm="slaney", mel_scale="slaney"
    )
    return torch.from_numpy(filters.T[:BANDS].astype(np.float32))
