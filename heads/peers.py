"""The weights of the challenge teams' released heads, under our names.

    cross_modal_gru  UNICAMP: the classifiers of two or three modalities
    attentive_stats  the challenge baseline: `final_pool.pt` and `final_ser.pt` together
    conv_pool        SAIL: `WavLMWrapper` and `WhisperWrapper` of vox-profile-release
    deep_fusion      NTUA: `DeepSER` of MEDUSA
    early_mha        BSC-UPC: `Classifier` of fedecosta/SpeechEmotionRecognition
    mdat             UFG: `SERBimodalEmbeddingF0Model` with `use_mdat`; no weights are published

Each function takes a state dict, and the number of attention heads by modality where it is not the
released one, as weights do not show it. It raises `KeyError` for a state dict of another head.
Foundation models that such files hold as well are ignored like other unused keys.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ser.corpus.columns import ATTRIBUTES
from ser.corpus.config import MSP_CLASSES

State = Mapping[str, Tensor]
# of the answers of SAIL (a ninth is `other`) and UFG, which are in alphabetical order
ORDER = [sorted(MSP_CLASSES).index(name) for name in MSP_CLASSES]
MODALITIES = ("speech", "text", "prosody")
NEUTRAL = ("neutral_classifier", "classifier_neutral")  # of two, of three modalities
BASELINE_ATTRIBUTES = ("arousal", "dominance", "valence")


@dataclass(frozen=True)
class Released:
    """A released head by our names.

    `options` are the keys of its entry in pipeline.yaml, `dims` the widths of its features,
    `outputs` those of its outputs; `layer_weights` are those that sum a feature's layers, by the
    feature's name; `ignored` are keys that nothing reads.
    """

    options: dict[str, Any]
    dims: dict[str, int]
    outputs: dict[str, int]
    state: dict[str, Tensor]
    layer_weights: dict[str, Tensor] = field(default_factory=dict)
    ignored: Sequence[str] = ()


def unicamp(state: State, attention_heads: Mapping[str, int]) -> Released:
    """Return UNICAMP's head of speech, text and, in the trimodal one, prosody.

    Two speech features take the places of speech and text; with Whisper and HuBERT, Whisper is
    first.
    """
    modalities = [m for m in MODALITIES if f"{m}_projection.weight" in state]
    ours = {}
    for key, value in state.items():
        first, suffix = key.split(".", 1)
        modality, _, part = first.partition("_")
        if modality in MODALITIES:
            part = "pooling" if part == "attn" else part
            ours[f"modalities.{MODALITIES.index(modality)}.{part}.{suffix}"] = value
        elif first in NEUTRAL:
            ours[f"outputs.neutral_logit.{suffix}"] = value
        else:
            name = {"layer_norm": "norm", "classifier": "outputs.logits"}.get(first, first)
            ours[f"{name}.{suffix}"] = value
    dims = {m: state[f"{m}_projection.weight"].shape[1] for m in modalities}
    last = [v for k, v in state.items() if k.startswith("classifier.") and v.dim() == 2][-1]
    outputs = {"logits": last.shape[0]}
    if any("neutral" in key for key in state):
        outputs["neutral_logit"] = 1
    options: dict[str, Any] = {"hidden": state["speech_projection.weight"].shape[0]}
    if attention_heads:
        options["attention_heads"] = dict(attention_heads)
    return Released(options, dims, outputs, ours)


def baseline(state: State, attention_heads: Mapping[str, int]) -> Released:
    """Return the baseline's head: 8 classes, or arousal, dominance and valence in this order."""
    width, hidden = state["sap_linear.weight"].shape[1], state["fc.0.0.weight"].shape[0]
    count, score = len(state["out.0.bias"]), state["attention"].T
    output = "attributes" if count == len(ATTRIBUTES) else "logits"
    prefixes = {
        "sap_linear.": "pooling.0.projection.",
        "fc.0.0.": f"outputs.{output}.1.",
        "fc.0.1.": f"outputs.{output}.2.",
        "out.0.": f"outputs.{output}.5.",
    }
    ours, ignored = _renamed(state, prefixes)
    ours["pooling.0.score.weight"] = score
    ignored.remove("attention")
    if output == "attributes":
        order = [BASELINE_ATTRIBUTES.index(name) for name in ATTRIBUTES]
        for part in ("weight", "bias"):
            ours[f"outputs.{output}.5.{part}"] = state[f"out.0.{part}"][order]
    return Released({"hidden": hidden}, {"speech": width}, {output: count}, ours, ignored=ignored)


def sail(state: State, attention_heads: Mapping[str, int]) -> Released:
    """Return SAIL's head, its classes in the order of the challenge and `other` by itself.

    The 17 secondary emotions stay in their order, as the output `secondary`. WavLM's `weights` sum
    its layers; Whisper's file has unused ones, and is known by its `embed_positions`.
    """
    layers = {"emotion": "logits", "detailed_out": "secondary"}
    layers |= {name: f"attributes.each.{i}" for i, name in enumerate(ATTRIBUTES)}
    prefixes = {f"model_seq.{n}.": f"convolutions.0.{n}." for n in (0, 3, 6)}
    prefixes |= {f"{a}_layer.{n}.": f"outputs.{x}.{n}." for a, x in layers.items() for n in (0, 2)}
    ours, ignored = _renamed(state, prefixes)
    for part in ("weight", "bias"):
        for n in (0, 3, 6):
            ours[f"convolutions.0.{n}.{part}"] = state[f"model_seq.{n}.{part}"].squeeze(-1)
        ours[f"outputs.other.0.{part}"] = state[f"emotion_layer.0.{part}"]
        last = state[f"emotion_layer.2.{part}"]
        ours[f"outputs.logits.2.{part}"] = last[ORDER]
        ours[f"outputs.other.2.{part}"] = last[len(ORDER) :]
    dim, hidden = state["model_seq.0.weight"].shape[1], state["model_seq.0.weight"].shape[0]
    summed = {}
    if "weights" in state and not any("embed_positions" in key for key in state):
        summed = {"speech": state["weights"]}
        ignored.remove("weights")
    outputs = {"logits": len(ORDER), "other": 1, "attributes": len(ATTRIBUTES)}
    options = {"hidden": hidden, "secondary": len(state["detailed_out_layer.2.bias"])}
    return Released(options, {"speech": dim}, outputs, ours, summed, ignored)


def medusa(state: State, attention_heads: Mapping[str, int]) -> Released:
    """Return MEDUSA's DeepSER of any number of features, with classes and attributes."""
    legs = {int(m[1]) for key in state if (m := re.match(r"legs\.(\d+)\.", key))}
    parts = {f"legs.{i}": f"legs.{i}" for i in sorted(legs)} | {"leg4": "shallow", "leg5": "deep"}
    names = {
        "linear1": "projection.0",
        "linear2": "projection.2",
        "transformer.layers.0": "first",
        "transformer.layers.1": "second",
    }
    ends = {"linear1": "fuse", "linear2": "outputs.logits.1", "linear3": "outputs.attributes.1"}
    prefixes = {f"{a}.{b}.": f"{x}.{y}." for a, x in parts.items() for b, y in names.items()}
    prefixes |= {f"{a}.": f"{x}." for a, x in ends.items()}
    ours, ignored = _renamed(state, prefixes)
    hidden = state["legs.0.linear1.weight"].shape[0]
    inner = state["leg4.transformer.layers.0.linear1.weight"].shape[0]
    dims = {f"feature-{i}": state[f"legs.{i}.linear1.weight"].shape[1] for i in sorted(legs)}
    outputs = {"logits": len(state["linear2.bias"]), "attributes": len(state["linear3.bias"])}
    return Released({"hidden": hidden, "feed_forward": inner}, dims, outputs, ours, ignored=ignored)


def bsc_upc(state: State, attention_heads: Mapping[str, int]) -> Released:
    """Return BSC-UPC's head of speech, or of speech and text; the heads are those of `speech`."""
    full, adapted = "seq_to_seq_layer.to_keys.weight" in state, any("adapter" in k for k in state)
    behind = "classifier_layer.fully_connected_layer.classifier_layer_"
    inner = [k for k in state if re.fullmatch(rf"{behind}hidden_layer_\d+\.0\.weight", k)]
    prefixes = {
        "feature_extractor_norm_layer.": "adapters.0.0.",
        "text_feature_extractor_norm_layer.": "adapters.1.0.",
        "adapter_layer.adapter_layer.0.": "adapters.0.1.",
        "adapter_layer.adapter_layer.1.": "adapters.0.2.",
        **{f"seq_to_seq_layer.to_{k}.": f"attention.{k}." for k in ("keys", "queries", "values")},
        "seq_to_seq_layer.unify_heads.": "attention.unify.",
        f"{behind}input_layer.0.": "outputs.logits.1.",
        f"{behind}input_layer.1.": "outputs.logits.2.",
        f"{behind}output_layer.0.": f"outputs.logits.{5 + 4 * len(inner)}.",
    }
    for i in range(len(inner)):  # dropout, then Linear, LayerNorm, GELU and dropout a layer
        for part in (0, 1):
            prefixes[f"{behind}hidden_layer_{i}.{part}."] = f"outputs.logits.{5 + 4 * i + part}."
    ours, ignored = _renamed(state, prefixes)
    ours["pooling.weight"] = state["seq_to_one_layer.query"].T
    heads = attention_heads.get("speech", 4)
    if not full:
        ours["attention.queries"] = state["seq_to_seq_layer.query"].T
        heads = state["seq_to_seq_layer.query"].shape[1]
    width = state["feature_extractor_norm_layer.weight"].shape[0]
    hidden = state["adapter_layer.adapter_layer.0.weight"].shape[0] if adapted else width
    options = {
        "hidden": hidden,
        "attention": "full" if full else "sub_vector",
        "attention_heads": heads,
        "classifier": state[f"{behind}input_layer.0.weight"].shape[0],
        "classifier_layers": 1 + len(inner),
        "adapter": "first" if adapted else "needed",
    }
    dims = {"speech": width}
    if "text_feature_extractor_norm_layer.weight" in state:
        dims["text"] = state["text_feature_extractor_norm_layer.weight"].shape[0]
    outputs = {"logits": len(state[f"{behind}output_layer.0.bias"])}
    weights = state.get("feature_extractor.layer_weights")
    summed = {} if weights is None else {"speech": weights}
    used = ("seq_to_one_layer.query", "seq_to_seq_layer.query", "feature_extractor.layer_weights")
    ignored = [key for key in ignored if key not in used]
    return Released(options, dims, outputs, ours, summed, ignored)


def ufg(state: State, attention_heads: Mapping[str, int]) -> Released:
    """Return UFG's head of speech, text and pitch, its classes in the order of the challenge.

    The transformers' attention heads are those of `speech`. The code has one more vector, for
    padding of the pitch, which nothing reads here.
    """
    state = {key.removeprefix("model."): value for key, value in state.items()}
    prefixes = {
        "f0_embedding.": "projections.2.0.vectors.",
        "f0_proj.0.": "projections.2.1.",
        "co_attention.proj_audio.": "co_attention.first.",
        "co_attention.proj_text.": "co_attention.second.",
        "mlp.W.": "outputs.logits.gate.",
        "mlp.V.": "outputs.logits.value.",
        "mlp.W2.": "outputs.logits.out.",
    }
    for i, modality in enumerate(("audio", "text")):
        prefixes |= {
            f"{modality}_proj.0.": f"projections.{i}.0.",
            f"{modality}_graph_attn.W.": f"graphs.{i}.projection.",
            f"{modality}_graph_attn.a.": f"graphs.{i}.score.",
            f"{modality}_trans_enc.": f"transformers.{i}.",
            f"{modality}_attentive_pooling_proj.": f"pools.{i}.score.",
        }
    ours, ignored = _renamed(state, prefixes)
    for part in ("weight", "bias"):
        ours[f"outputs.logits.out.{part}"] = ours[f"outputs.logits.out.{part}"][ORDER]
    ours["projections.2.0.vectors.weight"] = state["f0_embedding.weight"][:-1]
    hidden = state["audio_proj.0.weight"].shape[0]
    options = {
        "hidden": hidden,
        "attention_heads": attention_heads.get("speech", 8),
        "feed_forward": state["audio_trans_enc.linear1.weight"].shape[0],
        "classifier": state["mlp.W.weight"].shape[0],
        "steps": {"pitch": len(state["f0_embedding.weight"]) - 1},
    }
    dims = {"speech": state["audio_proj.0.weight"].shape[1]}
    dims |= {"text": state["text_proj.0.weight"].shape[1], "pitch": 1}
    return Released(options, dims, {"logits": len(ORDER)}, ours, ignored=ignored)


def _renamed(state: State, prefixes: Mapping[str, str]) -> tuple[dict[str, Tensor], list[str]]:
    """Rename the keys that begin with one of the prefixes; return them, and the other keys."""
    renamed, ignored = {}, []
    for key, value in state.items():
        prefix = next((p for p in prefixes if key.startswith(p)), None)
        if prefix is None:
            ignored.append(key)
        else:
            renamed[prefixes[prefix] + key.removeprefix(prefix)] = torch.as_tensor(value)
    return renamed, sorted(ignored)
