"""Stand-ins have the architecture of what they stand for, and can be run."""

import json
from functools import cache

import numpy as np
import pytest

from ser.corpus.errors import UserError
from ser.extract.extractor import EXTRACTORS, parse_options
from ser.extract.models import resolve
from ser.extract.registry import MODELS
from ser.synthetic.corpus import WORDS
from ser.synthetic.encoders import encoder_like
from ser.synthetic.models import SPEECH, TEXT, _architecture, tiny_model
from ser.synthetic.recognizers import TRANSCRIPT


@cache
def wave(seconds=0.7, seed=0):
    rng = np.random.default_rng(seed)
    return (0.1 * rng.standard_normal(int(16_000 * seconds))).astype("f4")


def run(kind, folder, given, **options):
    entry = {"kind": kind, "model": str(folder), **options}
    loaded = EXTRACTORS.get(kind)(parse_options(entry), resolve(str(folder)))
    loaded.load("cpu")
    return loaded.extract(given)


@pytest.mark.parametrize(
    ("model", "architecture", "norm"),
    [
        ("microsoft/wavlm-large", "wavlm", "layer"),
        ("wavlm-base", "wavlm", "group"),
        ("facebook/hubert-xlarge-ls960-ft", "hubert", "layer"),
        ("xls-r-300m", "wav2vec2", "layer"),
        ("w2v-bert-2.0", "wav2vec2-bert", None),
        ("wav2vec2-conformer-large", "wav2vec2-conformer", "layer"),
    ],
)
def test_speech_models(tmp_path, model, architecture, norm):
    folder = tiny_model("speech", model, tmp_path, WORDS)
    config = json.loads((folder / "config.json").read_text())
    assert config["model_type"] == architecture
    assert config.get("feat_extract_norm") == norm
    frames = run("speech", folder, [wave()], layer="sum:-4:")[0]
    assert frames.shape == (34, 32) and np.isfinite(frames).all()


@pytest.mark.parametrize(
    ("model", "model_type", "shape"),
    [
        ("data2vec-audio-large", "data2vec-audio", (34, 16)),
        ("voxtral-mini-3b", "voxtral", (35, 16)),
        ("dasheng-base", "dasheng", (17, 24)),
        ("spear-base", "spear", (31, 24)),
    ],
)
def test_encoders_of_larger_models(tmp_path, model, model_type, shape):
    folder = tiny_model("speech", model, tmp_path, WORDS)
    assert json.loads((folder / "config.json").read_text())["model_type"] == model_type
    assert run("speech", folder, [wave()], layer=4)[0].shape == shape


@pytest.mark.parametrize(
    ("model", "architecture"),
    [
        ("FacebookAI/roberta-large", "roberta"),
        ("microsoft/deberta-v2-xxlarge", "deberta-v2"),
        ("answerdotai/ModernBERT-large", "modernbert"),
        ("google-bert/bert-large-uncased", "bert"),
        ("google-t5/t5-large", "t5"),
        ("llama-3.1-8b", "llama"),
        ("mistral-7b", "mistral"),
        ("qwen2.5-7b", "qwen2"),
        ("qwen3-embedding-0.6b", "qwen3"),
        ("embeddinggemma-300m", "gemma3_text"),
    ],
)
def test_text_models(tmp_path, model, architecture):
    folder = tiny_model("text", model, tmp_path, WORDS)
    assert json.loads((folder / "config.json").read_text())["model_type"] == architecture
    long, empty = run("text", folder, ["my brother left the house " * 20, ""], of="transcript")
    assert len(long) > 64 and long.shape[1] == 32  # in windows
    assert empty.shape == (1, 32) and not empty.any()


def test_every_model_with_a_short_name_has_a_stand_in():
    lacking = set()
    for name, card in MODELS.items():
        known = {"speech": SPEECH, "text": TEXT}.get(card.kind)
        if known is None or encoder_like(name, ""):
            continue
        try:
            assert _architecture(card.hub, known) in dict(known).values()
        except UserError:
            lacking.add(card.encoder)
    assert lacking == {"emotion2vec"}


def test_whisper_transcribes_words_that_depend_on_the_clip_and_ends(tmp_path):
    folder = tiny_model("asr", "openai/whisper-large-v3", tmp_path, WORDS)
    assert tiny_model("whisper", "whisper-large-v3", tmp_path, WORDS) == folder
    transcripts = run("asr", folder, [wave(0.5 + 0.1 * i, i) for i in range(5)], window="trim")
    texts = [transcript.text for transcript in transcripts]
    assert len(set(texts)) > 1
    assert all(0 < len(text) < TRANSCRIPT * 12 for text in texts)
    assert run("whisper", folder, [wave()], window="trim")[0].shape == (35, 32)


@pytest.mark.parametrize(
    ("kind", "model", "model_type"),
    [
        ("ctc", "facebook/wav2vec2-large-xlsr-53-german", "wav2vec2"),
        ("ctc", "parakeet-ctc-1.1b", "parakeet_ctc"),
        ("recognizer", "parakeet-tdt-0.6b-v3", "parakeet_tdt"),
        ("recognizer", "qwen3-asr-1.7b", "qwen3_asr"),
    ],
)
def test_recognizers_transcribe_words_that_depend_on_the_clip(tmp_path, kind, model, model_type):
    folder = tiny_model(kind, model, tmp_path, WORDS)
    assert json.loads((folder / "config.json").read_text())["model_type"] == model_type
    transcripts = run(kind, folder, [wave(0.5 + 0.2 * i, i) for i in range(4)])
    assert len({transcript.text for transcript in transcripts}) > 1


def test_an_audio_language_model_scores_classes(tmp_path):
    folder = tiny_model("local_audio_llm", "qwen2-audio-7b", tmp_path, WORDS)
    (frames,) = run("local_audio_llm", folder, [wave()], classes=["angry", "sad"])
    assert frames.shape == (1, 2) and np.exp(frames).sum() == pytest.approx(1)


def test_facodec_is_as_large_as_it_is(tmp_path):
    folder = tiny_model("facodec", "facodec", tmp_path, WORDS)
    assert run("facodec", folder, [wave(0.4)])[0].shape == (33, 512)


def test_the_same_model_has_the_same_weights_and_another_has_others(tmp_path):
    def digest(model, folder):
        return resolve(str(tiny_model("speech", model, tmp_path / folder, WORDS))).digest

    assert digest("wavlm-large", "a") == digest("microsoft/wavlm-large", "b")
    assert digest("wavlm-base-plus", "a") != digest("wavlm-base", "a")


def test_the_config_of_a_folder_gives_its_architecture(tmp_path):
    own = tmp_path / "my-model"
    own.mkdir()
    options = {"model_type": "wavlm", "feat_extract_norm": "group"}
    (own / "config.json").write_text(json.dumps(options))
    folder = tiny_model("speech", str(own), tmp_path / "tiny", WORDS)
    config = json.loads((folder / "config.json").read_text())
    assert (config["model_type"], config["feat_extract_norm"]) == ("wavlm", "group")


def test_a_damaged_config_gives_no_architecture(tmp_path):
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "wavlm"')
    with pytest.raises(UserError, match=r"the architecture of '.*mine' is unknown"):
        tiny_model("speech", str(folder), tmp_path, WORDS)


def test_an_unknown_architecture_is_refused(tmp_path):
    with pytest.raises(UserError) as error:
        tiny_model("speech", "someone/data2vec-large", tmp_path, WORDS)
    assert str(error.value) == (
        "smoke: the architecture of 'someone/data2vec-large' is unknown; a smoke test can replace "
        "wav2vec2-bert, wav2vec2-conformer, wavlm, hubert, wav2vec2."
    )
