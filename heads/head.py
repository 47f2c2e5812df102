"""The interface of every head, and how masks are made and used.

A head is a module `features -> outputs`: features map a name to `(frames, mask)`, frames
`(batch, frames, dim)` float32, mask `(batch, frames)` bool, True where a frame is real. The outputs
that it must have are a mapping of names to widths; it returns a tensor `(batch, width)` for each:

logits         one per class
other          a logit for the votes for none of the classes
neutral_logit  of neutral against the rest
attributes     on the scale of 1 to 7
gender         a logit per gender

Padding never changes a result. To add a head, decorate a module class with `@head("name", Options)`
and name its Python module under `plugins:` in pipeline.yaml, or in a package's entry points
(`ser.corpus.registry`). One that derives from `Head` has all outputs and manifold mix-up; any
other module that returns logits will do too. Where a head pools by attention, `attention_of`
returns its weights.
"""

from collections.abc import Callable, Mapping
from typing import Protocol, TypeVar, runtime_checkable

import torch
from torch import Tensor, nn

from ser.corpus.errors import UserError
from ser.corpus.registry import origin, reason, require_call, require_options
from ser.heads.config import HeadConfig
from ser.heads.options import Architecture
from ser.heads.registry import HEADS

Features = Mapping[str, tuple[Tensor, Tensor]]
Widths = Mapping[str, int]  # of the features, or of the outputs, by name
Mix = Callable[[Tensor], Tensor]  # of the embedding `(batch, width)`


@runtime_checkable
class PoolsByAttention(Protocol):
    """A head that pools by attention."""

    def attention_of(self, features: Features) -> dict[str, Tensor]:
        """Return the weights `(batch, frames)` of each feature that is pooled by attention."""
        ...


Decorated = TypeVar("Decorated", bound=Callable[..., nn.Module])


def head(name: str, options: type[Architecture]) -> Callable[[Decorated], Decorated]:
    """Register a head class, which builds a head for features and outputs of these widths.

    It raises `UserError` for an output that it cannot give.

    Args:
        name: the value of `head:` that chooses it in pipeline.yaml.
        options: its options, a subclass of `ser.heads.options.Architecture`.

        >>> @head("mean_linear", Architecture)
        ... class MeanLinear(nn.Module):
        ...     def __init__(self, dims, outputs, options):
        ...         super().__init__()
        ...         self.linear = nn.Linear(sum(dims.values()), outputs["logits"])
        ...     def forward(self, features):
        ...         means = [weighted_mean(x, equal_weights(m)) for x, m in features.values()]
        ...         return {"logits": self.linear(torch.cat(means, 1))}
        >>> MeanLinear({"voice": 16}, {"logits": 2}, Architecture()).linear
        Linear(in_features=16, out_features=2, bias=True)
    """

    def register(cls: Decorated) -> Decorated:
        require_options("head", name, options, Architecture)
        require_call("head", name, cls, "(dims, outputs, options)", 3)
        _require_forward(name, cls)
        HEADS.add(name, cls, options)
        return cls

    return register


def _require_forward(name: str, cls: object) -> None:
    """Raise `UserError` for a module class that does not say what its outputs are."""
    if not (isinstance(cls, type) and issubclass(cls, nn.Module)):
        return
    lacking = "forward" if cls.forward is nn.Module.forward else ""
    if issubclass(cls, Head) and cls.forward is Head.forward and cls.embed is Head.embed:
        lacking = "embed"
    if lacking:
        raise UserError(
            f"head '{name}' ({origin(cls)}): the class does not define {lacking}; add it."
        )


def build_head(config: HeadConfig, dims: Widths, outputs: Widths) -> nn.Module:
    """Build the head that a config names, for the features in its order.

    Raises `UserError` for a head that no module registers, one that is not a PyTorch module,
    or a user's that cannot be built.
    """
    ordered = {name: dims[name] for name in config.feature_names}
    make = HEADS.get(config.head)
    label = f"the head '{config.head}' ({origin(make)})"
    problem = "does not initialise its base class; begin its __init__ with super().__init__()."
    try:
        module = make(ordered, outputs, config.architecture)
    except UserError:
        raise
    except (Exception, SystemExit) as error:
        if config.head in HEADS.built_in:
            raise
        if "Module.__init__" in str(error):
            raise UserError(f"{label} {problem}") from error
        raise UserError(f"{label} cannot be built ({reason(error)}); correct it.") from error
    if not isinstance(module, nn.Module):
        raise UserError(
            f"the head '{config.head}' is a {type(module).__name__}, not a torch.nn.Module; derive "
            "its class from ser.heads.head.Head or torch.nn.Module."
        )
    if "_parameters" not in vars(module):
        raise UserError(f"{label} {problem}")
    return module


class Standard(nn.Module):
    """Shift and scale `(batch, width)` by moments that are taken once, before the training.

    Batch normalisation whose result for a clip does not depend on its batch.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("deviation", torch.ones(width))

    def fit(self, values: Tensor) -> None:
        """Take the moments of all training clips `(clips, width)`; a constant keeps its scale."""
        deviation = values.std(dim=0, correction=0)
        self.get_buffer("mean").copy_(values.mean(dim=0))
        self.get_buffer("deviation").copy_(deviation.where(deviation > 1e-6, 1.0))

    def forward(self, values: Tensor) -> Tensor:
        """Return the standard scores."""
        return (values - self.get_buffer("mean")) / self.get_buffer("deviation")


class Head(nn.Module):
    """Base of the built-in heads: an embedding per clip, and every output computed from it.

    `read` makes the module that computes an output of a given width from the embedding.
    `standardize` is the width of the embedding if it is to be standardised, otherwise None.
    """

    def __init__(
        self,
        outputs: Widths,
        read: Callable[[int], nn.Module],
        standardize: int | None = None,
    ) -> None:
        super().__init__()
        self.standard = Standard(standardize) if standardize else None
        self.outputs = nn.ModuleDict({name: read(width) for name, width in outputs.items()})

    def embed(self, features: Features) -> Tensor:
        """Return the embeddings `(batch, width)` of a batch."""
        raise NotImplementedError

    def attention_of(self, features: Features) -> dict[str, Tensor]:
        """Return the weights `(batch, frames)` of each feature that is pooled by attention.

        Those of a clip sum to 1 and are 0 where padded. Other heads return none.
        """
        return {}

    def forward(self, features: Features, mix: Mix | None = None) -> dict[str, Tensor]:
        """Return every output `(batch, width)`; `mix` changes the embeddings in training."""
        embedding = self.embed(features)
        if self.standard is not None:
            embedding = self.standard(embedding)
        if mix is not None:
            embedding = mix(embedding)
        values: dict[str, Tensor] = {n: read(embedding) for n, read in self.outputs.items()}
        if "attributes" in values:
            values["attributes"] = self.rate(values["attributes"])
        return values

    def rate(self, values: Tensor) -> Tensor:
        """Return attributes on the scale of MSP-Podcast's ratings, 1 to 7."""
        return 1 + 6 * values.sigmoid()


def mask_of(lengths: Tensor, frames: int) -> Tensor:
    """Return `(batch, frames)` bool, True for the first `length` frames of each row."""
    return torch.arange(frames, device=lengths.device) < lengths.unsqueeze(1)


def attention_pool(frames: Tensor, scores: Tensor, mask: Tensor) -> Tensor:
    """Return the mean of `(batch, frames, dim)` weighted by softmax of `(batch, frames)` scores."""
    return weighted_mean(frames, attention_weights(scores, mask))


def attention_weights(scores: Tensor, mask: Tensor) -> Tensor:
    """Return the softmax over time of `(batch, frames)` scores, 0 where padded."""
    return scores.masked_fill(~mask, float("-inf")).softmax(dim=1)


def weighted_mean(frames: Tensor, weights: Tensor) -> Tensor:
    """Return the mean `(batch, dim)` of `(batch, frames, dim)` under `(batch, frames)` weights."""
    return torch.einsum("bt,btd->bd", weights, frames)


def weighted_moments(frames: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation `(batch, dim)` of `(batch, frames, dim)` over the frames.

    Weights `(batch, frames)` sum to 1 and are 0 where padded. The deviation is at least 0.003, as
    one frame has none and the root no slope at 0.
    """
    mean = weighted_mean(frames, weights)
    variance = weighted_mean((frames - mean.unsqueeze(1)).square(), weights)
    return mean, variance.clamp_min(1e-5).sqrt()


def equal_weights(mask: Tensor) -> Tensor:
    """Return `(batch, frames)` float32, 1 / length for real frames and 0 for padded ones."""
    return mask.float() / mask.sum(dim=1, keepdim=True)


def mlp(width: int, hidden: int, out: int, dropout: float) -> nn.Sequential:
    """Return the classifier that heads end in: one hidden layer."""
    return nn.Sequential(
        nn.Linear(width, hidden), nn.ReLU(), nn.Dropout(dropout), nn.Linear(hidden, out)
    )
