"""A CTC model's transcript is the best path through its frames, whatever the batch."""

import json
from functools import cache

import numpy as np
import pytest

from ser.corpus.errors import UserError
from ser.extract.check import check_features
from ser.extract.extractor import parse_options
from ser.extract.testing import clip
from ser.synthetic.sizes import enlarged
from tests.extract.factories import made, new_folder

TOKENS = ["<pad>", "<s>", "</s>", "<unk>", "|", "L", "O"]
torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")


@cache
def tiny_recognizer():
    folder = new_folder("ctc-words")
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = transformers.Wav2Vec2Config(
        **sizes,
        intermediate_size=64,
        conv_dim=(16,) * 7,
        num_conv_pos_embeddings=16,
        num_conv_pos_embedding_groups=2,
        feat_extract_norm="layer",
        do_stable_layer_norm=True,
        vocab_size=len(TOKENS),
        pad_token_id=0,
    )
    torch.manual_seed(0)
    model = enlarged(transformers.Wav2Vec2ForCTC(config))
    with torch.no_grad():
        model.lm_head.weight.mul_(100)
        model.lm_head.bias.copy_(torch.tensor([0, *[-1e4] * 3, 0, 0, 0]))  # no special tokens
    model.save_pretrained(folder)
    transformers.Wav2Vec2FeatureExtractor(return_attention_mask=True).save_pretrained(folder)
    (folder / "vocab.json").write_text(json.dumps({t: i for i, t in enumerate(TOKENS)}))
    transformers.Wav2Vec2CTCTokenizer(folder / "vocab.json").save_pretrained(folder)
    return folder


def frames_of(ids):
    """Return frames in which each token has the probability 0.5."""
    probabilities = np.full((len(ids), len(TOKENS)), 0.5 / (len(TOKENS) - 1))
    probabilities[np.arange(len(ids)), ids] = 0.5
    return np.log(probabilities)


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ([0, 5, 5, 0, 5, 6, 6, 0], "LLO"),  # merged, and kept where a blank is between
        ([5, 6, 4, 4, 5, 0, 6], "LO LO"),
        ([0, 0, 0], ""),
    ],
)
def test_repetitions_are_merged_and_blanks_removed(path, text):
    transcript = made("ctc", tiny_recognizer())._decode(frames_of(path))
    assert transcript.text == text
    assert transcript.avg_logprob == pytest.approx(np.log(0.5))
    assert transcript.language == "en"


def test_an_overlap_is_at_most_half_a_chunk():
    with pytest.raises(ValueError, match=r"Value error, `overlap` is at most half of `chunk` \("):
        parse_options({"kind": "ctc", "model": "m", "chunk": 4.0, "overlap": 2.5})


def test_a_transcript_does_not_depend_on_the_batch():
    extractor = made("ctc", tiny_recognizer())
    waves = [clip(seconds, seed) for seed, seconds in enumerate((0.4, 1.0, 2.6))]
    together = extractor.extract(waves)
    assert len({transcript.text for transcript in together}) > 1
    for wave, transcript in zip(waves, together, strict=True):
        (alone,) = extractor.extract([wave])
        assert alone.text == transcript.text
        assert alone.avg_logprob == pytest.approx(transcript.avg_logprob, abs=1e-4)


@pytest.mark.parametrize(
    ("entry", "languages"),
    [
        ({"kind": "asr", "model": "whisper-tiny.en"}, "en"),
        ({"kind": "ctc", "model": "parakeet-ctc-1.1b"}, "en"),
    ],
)
def test_a_model_of_other_languages_is_refused(entry, languages):
    options = parse_options(entry | {"language": "de"})
    with pytest.raises(UserError) as error:
        check_features({"words": options}, "cpu")
    assert str(error.value) == (
        f"features.words: {entry['model']} transcribes {languages} and not de; use a model of that "
        "language, or correct `language`."
    )
