"""A bundle says what its run says, on any machine, and one that was changed says nothing."""

import hashlib
import json
import shutil
import stat
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from zipfile import ZIP_DEFLATED, ZIP_STORED, ZipFile, ZipInfo

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

import ser
from ser.commands.main import cli
from ser.corpus.errors import UserError
from ser.extract.models import resolve
from ser.packing.pack import pack
from ser.predict.bundle import open_bundle
from ser.predict.record import AGAIN
from ser.score.metrics import METRICS, metric, uar
from tests.ser.predict.factories import added, changed, refusal


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))


def copied(small, folder):
    """Copy a run by links, its models for real: they may be changed and deleted."""
    text = (small.run / "pipeline.yaml").read_text()
    shutil.copytree(small.folder / "models", folder / "models")
    text = text.replace(str(small.folder / "models"), str(folder / "models"))
    run = folder / "run"
    run.mkdir()
    (run / "pipeline.yaml").write_text(text)
    for name in ("heads", "stack", "report"):
        (run / name).symlink_to(small.run / name)
    return run


@pytest.fixture(scope="module")
def packed(small, tmp_path_factory):
    """Return a bundle with its models, whose own folders are gone, and what is in it."""
    folder = tmp_path_factory.mktemp("packed")
    run = copied(small, folder)
    record = pack(run, folder / "bundle.ser", embed=True)
    shutil.rmtree(run)
    shutil.rmtree(folder / "models")
    return SimpleNamespace(path=folder / "bundle.ser", record=record, folder=folder)


def test_a_bundle_predicts_the_same_bits_as_its_run(small, packed, clips):
    p = ser.load(packed.path, "cpu")
    assert (p.heads, p.classes, p.attributes) == (
        small.p.heads,
        small.p.classes,
        small.p.attributes,
    )
    for ours, theirs in zip(p(clips), small.p(clips), strict=True):
        assert ours.emotion == theirs.emotion
        assert ours.probabilities == theirs.probabilities
        assert ours.attributes == theirs.attributes
        assert ours.transcript == theirs.transcript
        assert ours.heads == theirs.heads
    assert ser.load(packed.path, "cpu", head="stats").stack is None


def test_one_head_without_a_stack_is_packed_alone(small, light, clips):
    alone = ser.load(small.run, "cpu", head="voice")(clips[0])
    assert ser.load(light, "cpu")(clips[0]).probabilities == alone.probabilities
    with ZipFile(light) as archive:
        assert archive.namelist() == [
            "pipeline.yaml",
            "card.md",
            "heads/voice/head.json",
            "heads/voice/head.safetensors",
            "bundle.json",
        ]


def test_only_what_predicts_is_packed_and_no_path(small, packed):
    assert packed.record.heads == ("gru", "stats", "rated")
    with ZipFile(packed.path) as archive:
        names = archive.namelist()
        assert {info.compress_type for info in archive.infolist()} == {ZIP_STORED}
    assert {name.split("/")[1] for name in names if name.startswith("heads/")} == {
        *("gru", "stats", "rated")
    }
    suffixes = {".yaml", ".md", ".json", ".safetensors", ".npz", ".txt", ".bin"}
    assert {Path(name).suffix for name in names} <= suffixes
    data = packed.path.read_bytes()
    for place in (packed.folder, small.folder, Path.cwd(), Path.home()):
        assert str(place).encode() + b"/" not in data, place
    features = packed.record.features
    assert {name: (f.model, f.embedded) for name, f in features.items()} == {
        "words": ("whisper-tiny.en", features["words"].embedded),
        "whisper": ("whisper-tiny.en", features["words"].embedded),
        "layers": ("local/layers", "models/layers"),
        "text": ("local/text", "models/text"),
        "prosody": (None, None),
    }
    assert features["words"].weights == resolve("whisper-tiny.en").digest


def test_the_same_run_gives_the_same_members(small, packed, tmp_path):
    again = pack(copied(small, tmp_path), tmp_path / "again.ser", embed=True)
    assert list(again.members) == list(packed.record.members)
    differ = {n for n, member in again.members.items() if member != packed.record.members[n]}
    assert differ <= {"card.md"}  # which says when


def test_the_card_has_scores_intervals_data_and_limits(small, packed):
    card = (open_bundle(packed.path).folder / "card.md").read_text()
    scores = json.loads((small.run / "report" / "metrics.json").read_text())["test"]["stack"]
    assert "On **test**, in %; intervals n/a: 2 speakers:" in card
    assert f"| stack | {scores['n']} | {100 * scores['macro_f1']:.1f} |" in card
    ccc = scores["attributes"]["arousal"]
    assert f"| stack | arousal | {ccc['n']} | {ccc['ccc']:.3f} |" in card
    train = small.frame.filter(split="train")
    for name in small.p.classes:
        assert f"| {name} | {train.filter(emotion=name).height} |" in card
    assert f"| all | {train['speaker'].n_unique()} ({train.height} utterances) |" in card
    assert "| words | asr | whisper-tiny.en |" in card
    assert "- unknown: see where text is from." in card
    assert "- MIT: forbids omitting its text." in card
    assert "Not a lie detector, and not medical" in card


def test_a_changed_byte_of_any_member_is_reported(packed, tmp_path):
    data = packed.path.read_bytes()
    with ZipFile(packed.path) as archive:
        offsets = {info.filename: info.header_offset for info in archive.infolist()}
    path = tmp_path / "changed.ser"
    for name in ("heads/gru/head.json", "pipeline.yaml", "models/layers/model.safetensors"):
        at = offsets[name] + 30 + len(name) + 40
        path.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
        message = refusal(path)
        assert message.startswith(f"{path}: ")
        assert name in message
        assert "get a new copy" in message
        assert not list((tmp_path / "xdg" / "ser" / "bundles").iterdir())


def test_a_place_before_the_beginning_is_an_archive_that_was_changed(light, tmp_path):
    data = bytearray(light.read_bytes())
    at = data.rindex(b"PK\5\6") + 16  # the stated offset of the directory
    beyond = int.from_bytes(data[at : at + 4], "little") + len(data)
    data[at : at + 4] = beyond.to_bytes(4, "little")
    (tmp_path / "changed.ser").write_bytes(data)
    with pytest.raises(UserError, match="it is not a bundle, or is damaged"):
        open_bundle(tmp_path / "changed.ser")


@settings(deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_nothing_else_is_ever_loaded_from_a_damaged_bundle(light, tmp_path, data):
    good = light.read_bytes()
    members = open_bundle(light).record.members
    at = data.draw(st.integers(0, len(good) - 1) | st.integers(len(good) - 900, len(good) - 1))
    flip = data.draw(st.integers(0, 255))
    bad = good[:at] + (bytes([good[at] ^ flip]) + good[at + 1 :] if flip else b"")
    path = tmp_path / "bad.ser"
    path.write_bytes(bad)
    try:
        bundle = open_bundle(path)
    except UserError as error:
        assert str(error).startswith(f"{path}: ")
    else:  # a date, or what else a zip says that nobody asks for
        assert bundle.record.members == members
        for name, member in members.items():
            found = (bundle.folder / name).read_bytes()
            assert hashlib.sha256(found).hexdigest() == member.sha256


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_members_that_no_bundle_has_are_refused(light, tmp_path):
    path = tmp_path / "bad.ser"
    for name in (
        "../evil.json",
        "/etc/passwd",
        "heads/../../x.safetensors",
        "heads/voice/x.pkl",
        "heads/voice/",
        "models/a/pytorch_model.bin",
        "models/a/run.py",
        "C:\\x.json",
    ):
        message = refusal(added(light, path, ZipInfo(name)))
        assert message == f"{path}: the member {name!r} does not belong in a bundle; {AGAIN}."
    for name in ("card.md", "heads/VOICE/head.json"):
        message = refusal(added(light, path, ZipInfo(name)))
        assert message == f"{path}: the member {name!r} appears twice; {AGAIN}."
    message = refusal(added(light, path, ZipInfo("stack/stack.json")))
    assert message == f"{path}: the member 'stack/stack.json' is not in bundle.json; {AGAIN}."
    link = ZipInfo("stack/stack.json")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    message = refusal(added(light, path, link, b"/etc/passwd"))
    assert message == f"{path}: the member 'stack/stack.json' is a link or special file; {AGAIN}."
    bomb = added(light, path, "models/a/model.safetensors", bytes(10_000_000), ZIP_DEFLATED)
    assert refusal(bomb) == (
        f"{path}: the member 'models/a/model.safetensors' is compressed, which members of a "
        f"bundle never are; {AGAIN}."
    )


def test_members_that_are_not_as_declared_are_refused(light, tmp_path):
    path, name = tmp_path / "bad.ser", "heads/voice/head.json"
    members = json.loads(ZipFile(light).read("bundle.json"))["members"]
    size = members[name]["size"]
    for change, expected in {
        (("size", size - 1),): f"has {size} bytes but bundle.json records {size - 1}",
        (("sha256", "0" * 64),): "was changed: its sha256 is not that of packing",
    }.items():
        record = {"members": members | {name: members[name] | dict(change)}}
        assert refusal(changed(light, path, record=record)) == (
            f"{path}: the member {name!r} {expected}; {AGAIN}."
        )
    record = {"members": members | {"stack/stack.json": members[name]}}
    assert refusal(changed(light, path, record=record)) == (
        f"{path}: the member 'stack/stack.json' is listed in bundle.json but missing; {AGAIN}."
    )
    assert refusal(changed(light, path, record={"more": 1})) == (
        f"{path}: the member 'bundle.json' is not valid; {AGAIN}."
    )
    assert refusal(changed(light, path, record={"format": "ser-bundle/9"})) == (
        f"{path}: its format is 'ser-bundle/9' and this version of ser reads 'ser-bundle/1'; "
        "use the version that packed it, or pack it again."
    )
    path.write_text("not a zip")
    assert refusal(path) == (
        f"{path}: it is not a bundle, or is damaged (File is not a zip file); get a new "
        "copy, or give the folder of a run."
    )


def test_a_bundle_that_describes_something_else_is_refused(small, light, packed, tmp_path):
    path = tmp_path / "bad.ser"
    for record, key in [
        ({"classes": []}, "classes"),
        ({"classes": [*reversed(small.p.classes)]}, "classes"),
        ({"attributes": ["arousal", "x"]}, "attributes"),
        ({"stack": "../x"}, "stack"),
        ({"stack": None}, "stack"),
        ({"heads": [*reversed(small.p.heads)]}, "heads"),
        ({"heads": [small.p.heads[0]]}, "heads"),
    ]:
        assert refusal(changed(packed.path, path, record=record)) == (
            f"{path}: the member 'bundle.json' lists other {key} than its heads and stack have; "
            f"{AGAIN}."
        )
    for record in [{"stack": "mean"}, {"made": "../x"}, {"made": ""}, {"ser": "../x"}, {"ser": ""}]:
        message = refusal(changed(light, path, record=record))
        assert message.startswith(f"{path}: the member 'bundle.json' ")
        assert message.endswith(f"; {AGAIN}.")


def test_a_pipeline_that_would_run_or_read_more_is_refused(light, tmp_path, monkeypatch):
    path, text = tmp_path / "bad.ser", ZipFile(light).read("pipeline.yaml").decode()
    (tmp_path / "evil.py").write_text("raise SystemExit('it ran')")
    monkeypatch.setenv("SECRET", "s")
    prosody = "kind: prosody"
    for bad, what in {
        f"{text}plugins: [{tmp_path}/evil]\n": "names plugins, and a bundle may not run code",
        text.replace(prosody, f"{prosody}\n    x: ${{SECRET}}"): "has aliases or variables",
        f"a: &a [1]\nb: [*a, *a]\n{text}": "has aliases or variables",
        "a: [": "is not valid YAML",
        text.replace(prosody, "model: evil/model\n    kind: speech"): (
            "describes features.prosody otherwise than bundle.json"
        ),
    }.items():
        message = refusal(changed(light, path, **{"pipeline.yaml": bad.encode()}))
        assert message == f"{path}: the member 'pipeline.yaml' {what}; {AGAIN}."


def test_a_model_with_code_or_pickles_is_refused(light, tmp_path):
    path = tmp_path / "bad.ser"
    for name, data, what in [
        (
            "models/a/config.json",
            b'{"auto\\u005fmap": {"AutoModel": "evil--x.Y"}}',
            "needs code of its own (auto_map), and a bundle may not run code",
        ),
        (
            "models/a/model.bin",
            b"\x80\x04.",
            "is pickled, and nothing in a bundle is ever unpickled",
        ),
        ("models/a/config.json", b"{", "is not valid JSON"),
    ]:
        message = refusal(changed(light, path, **{name: data}))
        assert message == f"{path}: the member {name!r} {what}; {AGAIN}."


def test_it_is_unpacked_once_and_again_when_that_is_damaged(light, tmp_path):
    folder = open_bundle(light).folder
    assert folder.parent == tmp_path / "xdg" / "ser" / "bundles"
    assert folder.name == hashlib.sha256(light.read_bytes()).hexdigest()
    weights = folder / "heads" / "voice" / "head.safetensors"
    before = weights.stat().st_ino
    assert open_bundle(light).folder == folder
    assert weights.stat().st_ino == before
    good = weights.read_bytes()
    for bad in (b"short", good[:-1] + bytes([good[-1] ^ 1])):
        weights.write_bytes(bad)
        open_bundle(light)
        assert weights.read_bytes() == good
    assert [p.name for p in folder.parent.iterdir()] == [folder.name]


def test_other_weights_than_it_was_made_with_are_named(packed):
    bundle = open_bundle(packed.path)
    feature = bundle.record.features["words"].model_copy(update={"embedded": None})
    named = replace(
        bundle, record=bundle.record.model_copy(update={"features": {"words": feature}})
    )
    assert named.weights("whisper-tiny.en") == resolve("whisper-tiny.en")
    other = feature.model_copy(update={"weights": "revision:abc"})
    named = replace(bundle, record=bundle.record.model_copy(update={"features": {"words": other}}))
    weights = resolve("whisper-tiny.en")
    with pytest.raises(UserError) as error:
        named.weights("whisper-tiny.en")
    assert str(error.value) == (
        f"{packed.path}: it needs whisper-tiny.en with the digest revision:abc, but "
        f"{weights.folder} has {weights.digest[:19]}…; get those weights, or a bundle packed "
        "with --embed."
    )


def test_what_cannot_be_packed_is_reported(small, tmp_path):
    run, out = copied(small, tmp_path), tmp_path / "no.ser"

    def refused(embed=False):
        with pytest.raises(UserError) as error:
            pack(run, out, embed=embed)
        assert not out.exists()
        return str(error.value)

    message = refused()
    model = tmp_path / "models" / "text"
    assert message in {
        f"features.{name}: its model is a folder of this machine ({folder}), which others "
        "lack; include it with --embed."
        for name, folder in {"layers": tmp_path / "models" / "whisper", "text": model}.items()
    }
    (run / "report").unlink()
    (run / "report").mkdir()
    shutil.copy(small.run / "report" / "metrics.json", run / "report")
    csv = (small.run / "report" / "predictions.csv").read_text().splitlines()
    (run / "report" / "predictions.csv").write_text("\n".join(csv[:-1]))
    assert refused(embed=True) == (
        f"{run}/report/predictions.csv: it belongs to another stack than the run's, as do the "
        "scores beside it; run `ser score` and pack again."
    )
    (run / "report" / "predictions.csv").write_text("damaged")
    assert "belongs to another stack" in refused(embed=True)
    (tmp_path / "ours.py").touch()
    text = (run / "pipeline.yaml").read_text()
    (run / "pipeline.yaml").write_text(f"{text}plugins: [{tmp_path}/ours]\n")
    assert refused(embed=True) == (
        f"{run}/pipeline.yaml: it needs plugins, and a bundle may not run code; share the run's "
        "folder and the plugins instead."
    )
    pipeline = yaml.safe_load(text) | {"score": {"metrics": ["mine"]}}
    (run / "pipeline.yaml").write_text(yaml.safe_dump(pipeline))
    metric("mine")(uar)
    try:
        sentence = refused(embed=True)
        assert "score.metrics: the metric 'mine' is not built into ser; choose from acc" in sentence
        assert sentence.endswith("so share the run's folder and the package instead.")
    finally:
        METRICS.remove("mine")
    with pytest.raises(UserError, match=r"none: it is not a folder; give the folder of a run, as"):
        pack(tmp_path / "none", out)


def test_pickled_weights_are_not_embedded(tmp_path):
    from ser.packing.pack import _of_models

    (tmp_path / "pytorch_model.bin").write_bytes(b"PK")
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(UserError) as error:
        list(_of_models({"wavlm": ("models/wavlm", tmp_path)}))
    assert str(error.value) == (
        f"features.wavlm: {tmp_path} has pickled weights only, and nothing in a bundle is ever "
        "unpickled; convert them to safetensors first, or pack without --embed."
    )


def test_the_commands_pack_show_and_predict(small, light, clips, tmp_path):
    run, out = light.parent / "run", tmp_path / "b.ser"
    done = CliRunner().invoke(cli, ["pack", str(run), "-o", str(out)], catch_exceptions=False)
    digest = hashlib.sha256(out.read_bytes()).hexdigest()
    size = f"{out.stat().st_size / 1e6:.1f} MB"
    assert done.output == f"{out}: 4 members, {size}, sha256 {digest}\n"
    done = CliRunner().invoke(cli, ["pack", "--show", str(out)], catch_exceptions=False)
    assert done.output.startswith(
        "# small\n\nPredicts one of 3 emotions from speech, by the head voice."
    )
    assert done.output.endswith(f"\n{out}: checksums OK, 4 members, {size}, sha256 {digest}\n")
    command = ["predict", str(clips[0]), "--format", "csv", "--device", "cpu", "--run"]
    ours, theirs = (
        CliRunner().invoke(cli, [*command, str(where), *more], catch_exceptions=False).output
        for where, more in [(out, []), (small.run, ["--head", "voice"])]
    )
    assert ours == theirs
    assert str(clips[0]) in ours
    done = CliRunner().invoke(cli, ["pack", str(run)])
    assert str(done.exception).startswith("give RUN and -o bundle.ser, --push hf:owner/name or ")
