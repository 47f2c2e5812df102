"""Published classifiers of the true classes, tiny: their own answers, whatever the batch."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from transformers import AutoFeatureExtractor, AutoModel, AutoModelForAudioClassification

from ser.corpus.errors import UserError
from ser.extract.extractor import SAMPLE_RATE, Extractor, parse_options
from ser.extract.kinds.classifier_labels import FLOOR
from ser.extract.testing import ExtractorConformance, clip
from tests.extract.factories import MSP_DIM, made, tiny_classifier, tiny_dense, tiny_speech

OWN = "write an extractor of your own for it, as examples/add_extractor.py does."


class TestWav2Vec2Layer(ExtractorConformance):
    family, norm = "Wav2Vec2", "layer"
    layered: ClassVar[bool] = False

    def make(self, **options: Any) -> Extractor:
        return made("classifier", tiny_classifier(self.family, self.norm), **options)


@pytest.mark.slow  # of the same code as others
class TestHubertGroup(TestWav2Vec2Layer):
    family, norm = "Hubert", "group"


class TestWavLMLayer(TestWav2Vec2Layer):
    family = "WavLM"


@pytest.mark.slow  # of the same code as others
class TestConformerGroup(TestWav2Vec2Layer):
    family, norm = "Wav2Vec2Conformer", "group"


class TestW2vBert(TestWav2Vec2Layer):
    family, norm = "Wav2Vec2Bert", ""


class TestWhisper(TestWav2Vec2Layer):
    family, norm = "Whisper", ""


class TestDenseHead(TestWav2Vec2Layer):
    def make(self, **options: Any) -> Extractor:
        return made("classifier", tiny_dense(self.family, self.norm), **options)


@pytest.mark.slow  # of the same code as others
class TestDenseHeadOfAGroupNorm(TestDenseHead):
    family, norm = "Hubert", "group"


FAMILIES = [
    ("Wav2Vec2", "layer"),
    ("Wav2Vec2", "group"),
    ("Hubert", "layer"),
    ("WavLM", "group"),
    ("Wav2Vec2Bert", ""),
    ("Whisper", ""),
]


@pytest.mark.parametrize(("family", "norm"), FAMILIES)
def test_the_scores_are_the_log_probabilities_of_the_published_class(
    family: str, norm: str
) -> None:
    folder, waves = tiny_classifier(family, norm), [clip(1.3), clip(2.1, 3)]
    scores = made("classifier", folder).extract(waves)
    prepare = AutoFeatureExtractor.from_pretrained(folder)
    model = AutoModelForAudioClassification.from_pretrained(folder).eval()
    expected = []
    for wave in waves:
        inputs = prepare(wave, sampling_rate=SAMPLE_RATE, return_tensors="pt")
        with torch.inference_mode():
            expected.append(model(**inputs).logits.log_softmax(-1).numpy())
    np.testing.assert_allclose(scores, expected, atol=1e-4)
    assert np.abs(scores[0] - scores[1]).max() > 1e-3  # the clips differ


@pytest.mark.parametrize(("family", "norm"), [("Wav2Vec2", "layer"), ("Hubert", "group")])
def test_the_dense_head_is_the_published_one_scaled_to_1_to_7(family: str, norm: str) -> None:
    from safetensors.torch import load_file

    folder, wave = tiny_dense(family, norm), clip(1.3)
    tensors = load_file(folder / "model.safetensors")
    prepare = AutoFeatureExtractor.from_pretrained(folder)
    inputs = prepare(wave, sampling_rate=SAMPLE_RATE, return_tensors="pt")
    with torch.inference_mode():
        frames = AutoModel.from_pretrained(folder).eval()(inputs["input_values"])[0]
    dense, out = (
        [tensors[f"classifier.{name}.{part}"] for part in ("weight", "bias")]
        for name in ("dense", "out_proj")
    )
    raw = torch.tanh(frames.mean(1) @ dense[0].T + dense[1]) @ out[0].T + out[1]
    ((attributes,),) = made("classifier", folder).extract([wave])
    arousal, dominance, valence = (1 + 6 * raw[0]).clamp(1, 7).tolist()
    np.testing.assert_allclose(attributes, [arousal, valence, dominance], atol=1e-4)


def test_the_range_of_attributes_may_be_another() -> None:
    folder, wave = tiny_dense("Wav2Vec2", "layer"), clip(1.3)
    ((wide,),) = made("classifier", folder, range=(-6.0, 6.0)).extract([wave])
    ((narrow,),) = made("classifier", folder, range=(-2.5, 3.5)).extract([wave])
    raw = (wide - 1) / 6 * 12 - 6
    np.testing.assert_allclose(narrow, raw + 3.5, atol=1e-4)
    with pytest.raises(ValueError, match="the first number must be lower than the second"):
        parse_options({"kind": "classifier", "model": "x", "range": [1, 1]})


@pytest.mark.parametrize(("family", "norm"), [("Wav2Vec2", "layer"), ("Whisper", "")])
def test_a_long_clip_is_the_mean_of_its_equal_parts(family: str, norm: str) -> None:
    model = made("classifier", tiny_classifier(family, norm))
    wave = np.concatenate([clip(20.0), clip(20.0, 4)])
    wave = (wave - wave.mean()) / wave.std()  # so that each part is normalised alike
    prepare = AutoFeatureExtractor.from_pretrained(tiny_classifier(family, norm))
    halves = [(half - half.mean()) / half.std() for half in np.split(wave, 2)]
    assert model.cost(len(wave)) == (3000.0 if family == "Whisper" else 2000.0)
    ((whole,),) = model.extract([wave])
    published = AutoModelForAudioClassification.from_pretrained(tiny_classifier(family, norm))
    parts = np.split(wave, 2) if family == "Whisper" else halves
    logits = []
    for part in parts:
        inputs = prepare(part, sampling_rate=SAMPLE_RATE, return_tensors="pt")
        with torch.inference_mode():
            logits.append(published.eval()(**inputs).logits)
    expected = torch.stack(logits).mean(0).log_softmax(-1)[0].numpy()
    np.testing.assert_allclose(whole, expected, atol=0.02 if family == "Wav2Vec2" else 1e-4)


def test_classes_of_the_corpus_are_found_by_other_names_and_in_its_order() -> None:
    folder = tiny_classifier("Wav2Vec2", "layer")
    ((own,),) = made("classifier", folder).extract([clip(1.0)])
    ((scores,),) = made("classifier", folder, classes=("sad", "fear", "anger")).extract([clip(1.0)])
    sad_angry = own[[3, 2]] - np.logaddexp(own[3], own[2])
    np.testing.assert_allclose(scores, [sad_angry[0], FLOOR, sad_angry[1]], atol=1e-5)


def test_group_norm_models_batch_equal_lengths_only() -> None:
    layer, group = (made("classifier", tiny_classifier("Hubert", n)) for n in ("layer", "group"))
    whisper = made("classifier", tiny_classifier("Whisper", ""))
    assert layer.batch_key(16_000) is whisper.batch_key(16_000) is None
    assert group.batch_key(16_000) == 16_000 != group.batch_key(16_001)


def changed(folder: Path, target: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    """Copy a model, with a change of its config.json."""
    shutil.copytree(folder, target)
    config = json.loads((target / "config.json").read_text())
    change(config)
    (target / "config.json").write_text(json.dumps(config))
    return target


def refusal(folder: Path) -> str:
    with pytest.raises(UserError) as raised:
        made("classifier", folder)
    return str(raised.value)


def test_models_that_are_not_known_are_refused(tmp_path: Path) -> None:
    layer = tiny_classifier("Wav2Vec2", "layer")
    code = changed(
        layer,
        tmp_path / "code",
        lambda c: c.update(model_type="ser", auto_map={"AutoConfig": "own.SERConfig"}),
    )
    (code / "own.py").write_text("raise SystemExit('this code was executed')")
    assert refusal(code) == (
        f"{code}: a ser model is not of kind classifier, which takes Whisper, wav2vec 2.0, HuBERT, "
        f"WavLM and w2v-BERT 2.0, and runs no code of a model's; {OWN}"
    )
    ctc = changed(layer, tmp_path / "ctc", lambda c: c.update(architectures=["Wav2Vec2ForCTC"]))
    assert refusal(ctc) == (
        f"{ctc}: its config.json names the architecture Wav2Vec2ForCTC, which is not a "
        f"classifier that is known here (Wav2Vec2ForSequenceClassification); {OWN}"
    )
    dense = tiny_dense("Wav2Vec2", "layer")
    pooled = changed(dense, tmp_path / "max", lambda c: c.update(pooling_mode="max"))
    assert refusal(pooled) == (
        f"{pooled}: its config.json has `pooling_mode: max`, and only `mean` is known here; {OWN}"
    )


def test_code_of_a_known_family_is_not_executed_either(tmp_path: Path) -> None:
    layer, code = tiny_classifier("Wav2Vec2", "layer"), {"AutoModelForAudioClassification": "own.M"}
    folder = changed(layer, tmp_path / "m", lambda c: c.update(auto_map=code))
    (folder / "own.py").write_text("raise SystemExit('this code was executed')")
    ((scores,),) = made("classifier", folder).extract([clip(1.0)])
    np.testing.assert_array_equal(scores, made("classifier", layer).extract([clip(1.0)])[0][0])


def test_weights_without_the_classifier_are_refused(tmp_path: Path) -> None:
    """As of models whose head has other names, which transformers would fill at random."""
    encoder = tiny_speech("Wav2Vec2", "layer")
    labels = {"architectures": ["Wav2Vec2ForSequenceClassification"], "id2label": {"0": "a"}}
    labels["id2label"] = {"0": "angry", "1": "sad"}
    folder = changed(encoder, tmp_path / "m", lambda c: c.update(labels))
    assert refusal(folder) == (
        f"{folder}: its weights lack classifier.bias and 3 more, which would be random; {OWN}"
    )


def test_damaged_weights_and_another_rate(tmp_path: Path) -> None:
    layer = tiny_classifier("Wav2Vec2", "layer")
    cut = changed(layer, tmp_path / "cut", lambda c: None)
    (cut / "model.safetensors").write_bytes((layer / "model.safetensors").read_bytes()[:1000])
    assert refusal(cut).startswith(f"{cut}: it cannot be loaded (SafetensorError: ")
    slow = changed(layer, tmp_path / "slow", lambda c: None)
    prepare = json.loads((slow / "preprocessor_config.json").read_text())
    (slow / "preprocessor_config.json").write_text(json.dumps(prepare | {"sampling_rate": 8000}))
    assert refusal(slow) == (
        f"{slow}/preprocessor_config.json: the model reads 8000 Hz, and kind classifier gives "
        f"16000 Hz; {OWN}"
    )


def test_pickled_weights_are_not_unpickled(tmp_path: Path) -> None:
    """A `.bin` is read with `weights_only`, which makes tensors and nothing else."""
    import pickle

    layer = tiny_classifier("Wav2Vec2", "layer")
    folder = changed(layer, tmp_path / "m", lambda c: None)
    (folder / "model.safetensors").unlink()
    touched = tmp_path / "touched"

    class Touch:
        def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
            return (Path.touch, (touched,))

    (folder / "pytorch_model.bin").write_bytes(pickle.dumps({"classifier.bias": Touch()}))
    assert refusal(folder).startswith(f"{folder}: it cannot be loaded (")
    assert not touched.exists()


def test_the_labels_of_audeerings_model_are_attributes() -> None:
    model = made("classifier", tiny_dense("Wav2Vec2", "layer"))
    assert model.meaning.names == ("arousal", "valence", "dominance")
    assert [MSP_DIM[i] for (i,) in model.meaning.outputs] == list(model.meaning.names)
