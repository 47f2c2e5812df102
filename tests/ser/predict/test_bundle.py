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
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import ser
from corpus.errors import UserError
from extract.models import resolve
from ser.cli import cli
from ser.predict.bundle import AGAIN, open_bundle
from ser.predict.packing import pack
from tests.extract.factories import tiny_text, tiny_whisper


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))


def copied(small, folder):
    """Copy a run by links, its models for real: they may be changed and deleted."""
    text = (small.run / "pipeline.yaml").read_text()
    for name, model in {"whisper": tiny_whisper(), "text": tiny_text("Roberta")}.items():
        shutil.copytree(model, folder / "models" / name)
        text = text.replace(str(model), str(folder / "models" / name))
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
    about = pack(run, folder / "bundle.ser", embed=True)
    shutil.rmtree(run)
    shutil.rmtree(folder / "models")
    return SimpleNamespace(path=folder / "bundle.ser", about=about, folder=folder)


@pytest.fixture(scope="module")
def light(small, tmp_path_factory):
    """Return the bundle of one small head without a model and without a stack."""
    folder = tmp_path_factory.mktemp("light")
    (folder / "run" / "heads").mkdir(parents=True)
    (folder / "run" / "heads" / "voice").symlink_to(small.run / "heads" / "voice")
    (folder / "run" / "pipeline.yaml").symlink_to(small.run / "pipeline.yaml")
    pack(folder / "run", folder / "light.ser")
    return folder / "light.ser"


def changed(source, target, *, about=None, **members):
    """Write a bundle again: `members` replace bytes (None: leave out), hashes are made to fit."""
    with ZipFile(source) as old, ZipFile(target, "w") as new:
        data = {name: old.read(name) for name in old.namelist()} | members
        data = {name: said for name, said in data.items() if said is not None}
        said = json.loads(data.pop("bundle.json"))
        said["members"] = {
            name: {"sha256": hashlib.sha256(of).hexdigest(), "size": len(of)}
            for name, of in data.items()
        }
        for name, of in data.items():
            new.writestr(name, of)
        new.writestr("bundle.json", json.dumps(said | (about or {})))
    return target


def refusal(path):
    with pytest.raises(UserError) as error:
        ser.load(path, "cpu")
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_bundle_says_to_the_bit_what_its_run_says(small, packed, clips):
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
    assert packed.about.heads == ("gru", "stats", "rated")
    with ZipFile(packed.path) as archive:
        names = archive.namelist()
        assert {info.compress_type for info in archive.infolist()} == {ZIP_STORED}
    assert {name.split("/")[1] for name in names if name.startswith("heads/")} == {
        *("gru", "stats", "rated")
    }
    suffixes = {".yaml", ".md", ".json", ".safetensors", ".skops", ".txt", ".bin"}
    assert {Path(name).suffix for name in names} <= suffixes
    data = packed.path.read_bytes()
    for place in (packed.folder, small.folder, tiny_whisper(), Path.cwd(), Path.home()):
        assert str(place).encode() + b"/" not in data, place
    features = packed.about.features
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
    assert list(again.members) == list(packed.about.members)
    differ = {n for n, member in again.members.items() if member != packed.about.members[n]}
    assert differ <= {"card.md"}  # which says when


def test_the_card_has_scores_intervals_data_and_limits(small, packed):
    card = (open_bundle(packed.path).folder / "card.md").read_text()
    said = json.loads((small.run / "report" / "metrics.json").read_text())["test"]["stack"]
    low, high = (f"{100 * edge:.1f}" for edge in said["interval"]["macro_f1"])
    assert f"| stack | {said['n']} | {100 * said['macro_f1']:.1f} ({low} to {high}) |" in card
    ccc = said["attributes"]["arousal"]
    low, high = (f"{edge:.3f}" for edge in ccc["interval"])
    assert f"| stack | arousal | {ccc['n']} | {ccc['ccc']:.3f} ({low} to {high}) |" in card
    train = small.frame.filter(split="train")
    for name in small.p.classes:
        assert f"| {name} | {train.filter(emotion=name).height} |" in card
    assert f"| all | {train['speaker'].n_unique()} ({train.height} utterances) |" in card
    assert "| words | asr | whisper-tiny.en |" in card
    assert "- unknown: see where text is from." in card
    assert "- MIT: forbids nothing but leaving out its text." in card
    assert "Not a lie detector, and not medical" in card


def test_a_changed_byte_of_any_member_is_said(packed, tmp_path):
    data = packed.path.read_bytes()
    with ZipFile(packed.path) as archive:
        offsets = {info.filename: info.header_offset for info in archive.infolist()}
    path = tmp_path / "changed.ser"
    for name in ("heads/gru/head.json", "pipeline.yaml", "models/layers/model.safetensors"):
        at = offsets[name] + 30 + len(name) + 40
        path.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
        said = refusal(path)
        assert said.startswith(f"{path}: ")
        assert name in said
        assert "get it again" in said
        assert not list((tmp_path / "xdg" / "ser" / "bundles").iterdir())


def test_a_place_before_the_beginning_is_an_archive_that_was_changed(light, tmp_path):
    data = bytearray(light.read_bytes())
    at = data.rindex(b"PK\5\6") + 16  # where the directory is said to begin
    beyond = int.from_bytes(data[at : at + 4], "little") + len(data)
    data[at : at + 4] = beyond.to_bytes(4, "little")
    (tmp_path / "changed.ser").write_bytes(data)
    with pytest.raises(UserError, match="it is no bundle, or was cut short or changed"):
        open_bundle(tmp_path / "changed.ser")


@settings(deadline=None, max_examples=60, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_whatever_is_cut_or_changed_nothing_else_is_ever_loaded(light, tmp_path, data):
    good = light.read_bytes()
    members = open_bundle(light).about.members
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
        assert bundle.about.members == members
        for name, member in members.items():
            found = (bundle.folder / name).read_bytes()
            assert hashlib.sha256(found).hexdigest() == member.sha256


def added(light, path, info, data=b"x", compress=ZIP_STORED):
    shutil.copy(light, path)
    with ZipFile(path, "a") as archive:
        archive.writestr(info, data, compress)
    return path


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
        said = refusal(added(light, path, ZipInfo(name)))
        assert said == f"{path}: the member {name!r} is nothing that a bundle has; {AGAIN}."
    for name in ("card.md", "heads/VOICE/head.json"):
        said = refusal(added(light, path, ZipInfo(name)))
        assert said == f"{path}: the member {name!r} stands twice; {AGAIN}."
    said = refusal(added(light, path, ZipInfo("stack/stack.json")))
    assert said == f"{path}: the member 'stack/stack.json' is not in bundle.json; {AGAIN}."
    link = ZipInfo("stack/stack.json")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    said = refusal(added(light, path, link, b"/etc/passwd"))
    assert said == f"{path}: the member 'stack/stack.json' is a link, or no plain file; {AGAIN}."
    bomb = added(light, path, "models/a/model.safetensors", bytes(10_000_000), ZIP_DEFLATED)
    assert refusal(bomb) == (
        f"{path}: the member 'models/a/model.safetensors' is compressed, and the members of a "
        f"bundle never are; {AGAIN}."
    )


def test_members_that_are_not_as_declared_are_refused(light, tmp_path):
    path, name = tmp_path / "bad.ser", "heads/voice/head.json"
    said = json.loads(ZipFile(light).read("bundle.json"))["members"]
    size = said[name]["size"]
    for change, expected in {
        (("size", size - 1),): f"has {size} bytes where bundle.json says {size - 1}",
        (("sha256", "0" * 64),): "was changed, its sha256 is not the one packed",
    }.items():
        about = {"members": said | {name: said[name] | dict(change)}}
        assert refusal(changed(light, path, about=about)) == (
            f"{path}: the member {name!r} {expected}; {AGAIN}."
        )
    about = {"members": said | {"stack/stack.json": said[name]}}
    assert refusal(changed(light, path, about=about)) == (
        f"{path}: the member 'stack/stack.json' is named in bundle.json and not there; {AGAIN}."
    )
    assert refusal(changed(light, path, about={"more": 1})) == (
        f"{path}: the member 'bundle.json' is not valid; {AGAIN}."
    )
    assert refusal(changed(light, path, about={"format": "ser-bundle/9"})) == (
        f"{path}: its format is 'ser-bundle/9' and this ser reads 'ser-bundle/1'; get the ser that "
        "packed it, or have it packed again."
    )
    path.write_text("not a zip")
    assert refusal(path) == (
        f"{path}: it is no bundle, or was cut short or changed (File is not a zip file); get it "
        "again, or give the folder of a run."
    )


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
            "features.prosody is not what bundle.json says"
        ),
    }.items():
        said = refusal(changed(light, path, **{"pipeline.yaml": bad.encode()}))
        assert said == f"{path}: the member 'pipeline.yaml' {what}; {AGAIN}."


def test_a_model_with_code_or_pickles_is_refused(light, tmp_path):
    path = tmp_path / "bad.ser"
    for name, data, what in [
        (
            "models/a/config.json",
            b'{"auto\\u005fmap": {"AutoModel": "evil--x.Y"}}',
            "asks for code of its own (auto_map), and a bundle may not run code",
        ),
        (
            "models/a/model.bin",
            b"\x80\x04.",
            "is pickled, and nothing in a bundle is ever unpickled",
        ),
        ("models/a/config.json", b"{", "is not valid JSON"),
    ]:
        said = refusal(changed(light, path, **{name: data}))
        assert said == f"{path}: the member {name!r} {what}; {AGAIN}."


def test_it_is_unpacked_once_and_again_when_that_is_damaged(light, tmp_path):
    folder = open_bundle(light).folder
    assert folder.parent == tmp_path / "xdg" / "ser" / "bundles"
    assert folder.name == hashlib.sha256(light.read_bytes()).hexdigest()
    weights = folder / "heads" / "voice" / "head.safetensors"
    before = weights.stat().st_ino
    assert open_bundle(light).folder == folder
    assert weights.stat().st_ino == before
    weights.write_bytes(b"short")
    open_bundle(light)
    assert weights.stat().st_size > 5
    assert [p.name for p in folder.parent.iterdir()] == [folder.name]


def test_other_weights_than_it_was_made_with_are_named(packed):
    bundle = open_bundle(packed.path)
    told = bundle.about.features["words"].model_copy(update={"embedded": None})
    named = replace(bundle, about=bundle.about.model_copy(update={"features": {"words": told}}))
    assert named.weights("whisper-tiny.en") == resolve("whisper-tiny.en")
    other = told.model_copy(update={"weights": "revision:abc"})
    named = replace(bundle, about=bundle.about.model_copy(update={"features": {"words": other}}))
    here = resolve("whisper-tiny.en")
    with pytest.raises(UserError) as error:
        named.weights("whisper-tiny.en")
    assert str(error.value) == (
        f"{packed.path}: it was made with whisper-tiny.en of revision:abc, and here that is "
        f"{here.digest[:19]}… in {here.folder}; get those weights, or a bundle packed with --embed."
    )


def test_what_cannot_be_packed_is_said(small, tmp_path):
    run, out = copied(small, tmp_path), tmp_path / "no.ser"

    def refused(embed=False):
        with pytest.raises(UserError) as error:
            pack(run, out, embed=embed)
        assert not out.exists()
        return str(error.value)

    said = refused()
    model = tmp_path / "models" / "text"
    assert said in {
        f"features.{name}: its model is a folder of this machine ({folder}), which nobody else "
        "has; pack it too with --embed."
        for name, folder in {"layers": tmp_path / "models" / "whisper", "text": model}.items()
    }
    (run / "report").unlink()
    (run / "report").mkdir()
    shutil.copy(small.run / "report" / "metrics.json", run / "report")
    csv = (small.run / "report" / "predictions.csv").read_text().splitlines()
    (run / "report" / "predictions.csv").write_text("\n".join(csv[:-1]))
    assert refused(embed=True) == (
        f"{run}/report/predictions.csv: it is of another stack than the run's, and so are the "
        "scores beside it; run `ser score` and pack again."
    )
    (tmp_path / "ours.py").touch()
    text = (run / "pipeline.yaml").read_text()
    (run / "pipeline.yaml").write_text(f"{text}plugins: [{tmp_path}/ours]\n")
    assert refused(embed=True) == (
        f"{run}/pipeline.yaml: it needs plugins, and a bundle may not run code; give the run's "
        "folder and the plugins instead."
    )
    with pytest.raises(UserError, match=r"none: there is no such folder; give that of a run, as"):
        pack(tmp_path / "none", out)


def test_pickled_weights_are_not_embedded(tmp_path):
    from ser.predict.packing import _of_models

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
        "# small\n\nHears speech and tells one of 3 emotions: the head voice."
    )
    assert done.output.endswith(f"\n{out}: whole, 4 members, {size}, sha256 {digest}\n")
    said = ["predict", str(clips[0]), "--format", "csv", "--device", "cpu", "--run"]
    ours, theirs = (
        CliRunner().invoke(cli, [*said, str(where), *more], catch_exceptions=False).output
        for where, more in [(out, []), (small.run, ["--head", "voice"])]
    )
    assert ours == theirs
    assert str(clips[0]) in ours
    done = CliRunner().invoke(cli, ["pack", str(run)])
    assert "give RUN and -o bundle.ser, or --show bundle.ser" in done.output
