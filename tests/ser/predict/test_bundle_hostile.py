"""A bundle made to harm is one sentence, at once and in little memory, and nothing of it runs."""

import json
import random
import resource
import struct
import time
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

import ser
from ser.cache.json_file import CHECKSUM, json_checksum
from ser.commands.main import cli
from ser.corpus.errors import UserError
from ser.predict.members import card_problem, model_problem, pipeline_problem
from ser.predict.record import AGAIN
from ser.score.metrics import METRICS, metric, uar
from ser.stack.boosting import Boosting
from ser.stack.config import StackConfig
from ser.stack.folds import FoldedClassifier
from ser.stack.record import StackRecord
from tests.ser.predict.factories import changed, refusal

HEAD = "heads/voice/head.json"


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))


def member(light: Path, name: str) -> bytes:
    with ZipFile(light) as archive:
        return archive.read(name)


def with_head(light: Path, path: Path, **changes) -> Path:
    """Change fields of the head's record, which states the checksum of what it then is."""
    values = json.loads(member(light, HEAD)) | changes
    del values[CHECKSUM]
    values[CHECKSUM] = json_checksum(values)
    return changed(light, path, **{HEAD: json.dumps(values).encode()})


def with_stack(light: Path, path: Path, files=None, model="mean_logits", **changes) -> Path:
    """Put a stack over the one head into a bundle."""
    head = json.loads(member(light, HEAD))
    record = StackRecord(
        format="ser-stack/2",
        fingerprint="f",
        config=StackConfig(model=model, folds=2, protocol="unicamp").model_dump(mode="json"),
        protocol="unicamp",
        temperature=1.0,
        heads={"voice": head["fingerprint"]},
        classes=head["made_from"]["classes"],
        attributes=[],
        rows=0,
        rows_per_class={},
    )
    values = json.dumps(json.loads(record.to_json()) | changes).encode()
    members = {"stack/stack.json": values} | {f"stack/{n}": d for n, d in (files or {}).items()}
    return changed(light, path, record={"stack": model}, **members)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('a: "\\x24{HOME}"', "has aliases or variables"),
        ('"\\u0024{HOME}": 1', "has aliases or variables"),
        ("a: [{b: '$\\\n  {HOME}'}]", None),
        ('a: "$\\\n  {HOME}"', "has aliases or variables"),
        ("plugins: [evil]", "names plugins, and a bundle may not run code"),
        ("a: /etc/passwd", "leads out of the bundle ('/etc/passwd')"),
        ("a: ../x", "leads out of the bundle ('../x')"),
        ("a: b/../../x", "leads out of the bundle ('b/../../x')"),
        ("a: ~/x", "leads out of the bundle ('~/x')"),
        ("a: 'C:\\x'", "leads out of the bundle ('C:\\\\x')"),
        ("a: 's3://b/c'", "leads out of the bundle ('s3://b/c')"),
        ("a: &a [1]\nb: *a", "has aliases or variables"),
        ("a: [", "is not valid YAML"),
        ("[" * 3000, "is not valid YAML"),
        ("a: !!python/object/apply:os.system [id]", "is not valid YAML"),
        ("a: openai/whisper-tiny\nb: 0.5\nc: angry, sad..", None),
    ],
)
def test_a_pipeline_that_leads_elsewhere(text, expected):
    assert pipeline_problem(text.encode()) == expected


def test_a_part_that_is_not_built_in_is_refused(light, tmp_path):
    pipeline = yaml.safe_load(member(light, "pipeline.yaml")) | {"score": {"metrics": ["mine"]}}
    text = yaml.safe_dump(pipeline).encode()
    metric("mine")(uar)
    try:
        bad = changed(light, tmp_path / "bad.ser", **{"pipeline.yaml": text})
        with pytest.raises(UserError, match=r"the metric 'mine' is not built into ser"):
            ser.load(bad, "cpu")
    finally:
        METRICS.remove("mine")


def test_features_of_a_server_are_refused(light, tmp_path):
    text = member(light, "pipeline.yaml").decode()
    path = tmp_path / "bad.ser"
    asks = text.replace("kind: prosody", "kind: llm\n    model: m\n    server: http://x/v1", 1)
    message = refusal(changed(light, path, **{"pipeline.yaml": asks.encode()}))
    assert "the member 'pipeline.yaml' leads out of the bundle ('http://x/v1')" in message


def test_a_card_that_is_not_text(light, tmp_path):
    assert card_problem("# Ünïcode\n\tand tabs\n".encode()) is None
    path = tmp_path / "bad.ser"
    for card, what in {b"\xff\xfe": "is not UTF-8", b"\x1b[2J": "has control characters"}.items():
        message = refusal(changed(light, path, **{"card.md": card}))
        assert message == f"{path}: the member 'card.md' {what}; {AGAIN}."


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"weights": ["../../../x"]}, "'weights.0' is not valid"),
        ({"weights": ["none"]}, "heads/voice/none.safetensors: it is missing"),
        ({"frames": {"prosody": [10**9]}}, "'frames.prosody.0' is not valid"),
        ({"frames": {"prosody": [100_000]}}, "the weights are missing, damaged or of another head"),
        ({"outputs": {"logits": 10**9}}, "'outputs.logits' is not valid"),
        ({"outputs": {}}, ""),
        ({"config": []}, "'config' is not valid"),
        ({"made_from": {"classes": "abc", "features": {}}}, "'made_from' is not valid"),
        ({"epochs": "3"}, "'epochs' is not valid"),
    ],
)
def test_a_head_out_of_bounds(light, tmp_path, changes, expected):
    path = with_head(light, tmp_path / "bad.ser", **changes)
    message = refusal(path)
    assert message.startswith(f"{path}: ")
    assert expected in message
    assert message.endswith(f"; {AGAIN}.")


def test_options_of_a_head_out_of_bounds(light, tmp_path):
    config = json.loads(member(light, HEAD))["config"]
    sizes = config["architecture"] | {"hidden": 60_000}
    for bad in (
        {"architecture": config["architecture"] | {"hidden": 10**9}},
        {"head": "none"},
        {"architecture": sizes},
    ):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        message = refusal(with_head(light, tmp_path / "bad.ser", config=config | bad))
        assert message.endswith(f"; {AGAIN}.")
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300_000  # kB


@pytest.mark.parametrize("text", [b"", b"[]", b"{", b"[" * 100_000, b"\xff", b"{}", b"null"])
def test_invalid_records(light, tmp_path, text):
    stacked = with_stack(light, tmp_path / "stacked.ser")
    for source, name in ((light, HEAD), (stacked, "stack/stack.json")):
        bad = changed(source, tmp_path / "bad.ser", **{name: text})
        message = refusal(bad)
        assert message.startswith(f"{bad}: ")
        assert message.endswith(f"; {AGAIN}.")


def test_a_stack_is_loaded_and_out_of_bounds_refused(light, tmp_path):
    path = tmp_path / "b.ser"
    assert ser.load(with_stack(light, path), "cpu").stack.config.model == "mean_logits"
    for changes in (
        {"temperature": 0},
        {"temperature": "1"},
        {"format": "ser-stack/9"},
        {"heads": {"../voice": "f"}},
        {"heads": {"voice": "other"}},
        {"heads": {"none": "f"}},
        {"classes": ["a", "b"]},
        {"config": {"model": "random_forest", "folds": 10**9}},
        {"config": {}},  # `auto`, which is no model
        {"offsets": [0.5]},
        {"config": {"model": "mean_logits", "offsets": True}},
        {"config": {"model": "mean_logits", "offsets": True}, "offsets": [0.5, 1e9]},
        {"config": {"model": "logistic", "folds": 2, "draws": 5000}},
    ):
        message = refusal(with_stack(light, path, **changes))
        assert message.startswith(f"{path}: ")
        assert message.endswith(f"; {AGAIN}.")


def test_a_lightgbm_text_that_would_end_the_process(light, tmp_path):
    rng = np.random.default_rng(0)
    y = np.arange(90) % 3
    X = (rng.normal(size=(90, 3)) + np.eye(3)[y]).astype(np.float32)
    FoldedClassifier(Boosting(rounds=1, min_data_in_leaf=5), folds=2).fit(X, y).save(tmp_path)
    files = {p.name: p.read_bytes() for p in tmp_path.glob("fold-*.txt")}
    path = tmp_path / "b.ser"
    assert ser.load(with_stack(light, path, files, "lightgbm"), "cpu").stack is not None
    files["fold-0.txt"] = files["fold-0.txt"][:900]
    message = refusal(with_stack(light, path, files, "lightgbm"))
    assert message.startswith(f"{path}: stack/fold-0.txt: not readable as a LightGBM model (")
    assert message.endswith(f"; {AGAIN}.")


def model_file(folder: Path, name: str, data: bytes, weights: int = 100) -> str | None:
    folder.mkdir(exist_ok=True)
    for file in folder.iterdir():
        file.unlink()
    (folder / "model.safetensors").write_bytes(bytes(weights))
    (folder / name).write_bytes(data)
    return model_problem(folder / name)


def test_models_with_absurd_sizes(tmp_path):
    folder = tmp_path / "m"
    good = {"hidden_size": 768, "num_hidden_layers": 12, "intermediate_size": 3072}
    assert model_file(folder, "config.json", json.dumps(good).encode(), 2_000_000) is None
    for bad in (
        good | {"hidden_size": 10**9},
        good | {"num_hidden_layers": 10**6},
        good | {"vocab_size": 10**9},
        {"text_config": good | {"d_model": 10**7}},
        good | {"conv_dim": [10**6, 10**6]},
        good | {"x": 10**40},
    ):
        problem = model_file(folder, "config.json", json.dumps(bad).encode(), 2_000_000)
        assert problem is not None
        assert "impossible size" in problem or "far larger than its weights" in problem
    long = {"chunk_length": 10**9}
    assert model_file(folder, "preprocessor_config.json", json.dumps(long).encode()) is not None
    endless = b'{"model_max_length": 1000000000000000019884624838656}'
    assert model_file(folder, "tokenizer_config.json", endless) is None
    assert model_file(folder, "config.json", b"[]") == "is not valid JSON"
    assert "too large" in (model_file(folder, "config.json", bytes(1 << 21)) or "")


def tensors(header: object, data: bytes, length: int | None = None) -> bytes:
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


@pytest.mark.parametrize(
    ("data", "fine"),
    [
        (tensors({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}, bytes(8)), True),
        (tensors({"a": {"dtype": "F32", "shape": [3], "data_offsets": [0, 8]}}, bytes(8)), False),
        (tensors({"a": {"dtype": "F32", "shape": [-2], "data_offsets": [0, 8]}}, bytes(8)), False),
        (tensors({"a": {"dtype": "X", "shape": [2], "data_offsets": [0, 8]}}, bytes(8)), False),
        (tensors({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}, bytes(4)), False),
        (tensors({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}, bytes(9)), False),
        (
            tensors(
                {n: {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]} for n in "ab"}, bytes(8)
            ),
            False,
        ),
        (tensors({}, b"", 1 << 60), False),
        (tensors([], b""), False),
        (b"\0\0", False),
    ],
)
def test_headers_of_safetensors(tmp_path, data, fine):
    problem = model_file(tmp_path / "m", "model.safetensors", data)
    assert (problem is None) == fine


def mutated(data: bytes, rng: random.Random) -> bytes:
    """Change a member: bytes, or a value of its JSON."""
    if data[:1] == b"{" and rng.random() < 0.8:
        values = json.loads(data)
        place, steps = values, 0
        while True:
            key = rng.choice(list(place) if isinstance(place, dict) else range(len(place)))
            inner, steps = place[key], steps + 1
            if not isinstance(inner, dict | list) or not inner or rng.random() < 0.3:
                break
            place = inner
        wrong = [
            None,
            -1,
            0,
            10**9,
            10**40,
            0.5,
            float("nan"),
            "",
            "../x",
            "x" * 5000,
            [],
            {},
            True,
        ]
        place[key] = rng.choice(wrong)
        return json.dumps(values).encode()
    at = rng.randrange(len(data))
    return rng.choice((data[:at], data[:at] + rng.randbytes(1) + data[at + 1 :], data[at:] + data))


def test_members_changed_by_chance_are_loaded_or_one_sentence(light, tmp_path):
    rng, path = random.Random(5), tmp_path / "b.ser"
    start = with_stack(light, tmp_path / "start.ser")
    with ZipFile(start) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    loaded, slowest = 0, 0.0
    for _ in range(120):
        name = rng.choice([n for n in members if n != "bundle.json"])
        changed(start, path, **{name: mutated(members[name], rng)})
        began = time.thread_time()
        try:
            ser.load(path, "cpu")
            loaded += 1
        except UserError as error:
            assert str(error).startswith(f"{path}: ")
            assert "\n" not in str(error)
        slowest = max(slowest, time.thread_time() - began)
    assert 10 < loaded < 110
    assert slowest < 20


def test_every_command_reports_it_and_exits_with_2(light, tmp_path):
    head = with_head(light, tmp_path / "head.ser", weights=["../x"])
    stack = with_stack(light, tmp_path / "stack.ser", temperature=0)
    card = changed(light, tmp_path / "card.ser", **{"card.md": b"\xff"})
    clip = tmp_path / "x.wav"
    clip.touch()
    for path in (head, stack, card):
        for command in (["predict", str(clip), "--run"], ["serve", "--run"], ["pack", "--show"]):
            done = CliRunner().invoke(cli, [*command, str(path)])
            assert isinstance(done.exception, UserError), command
            assert done.exception.exit_code == 2
            assert str(done.exception).startswith(f"{path}: ")
            assert str(done.exception).endswith(f"; {AGAIN}.")


def ct2(version=6, shape=(2, 3), length=24, data=24, end=b"\0\0\0\0") -> bytes:
    name = struct.pack("<H", 2) + b"w\0"
    rank = struct.pack(f"<B{len(shape)}I", len(shape), *shape)
    head = struct.pack("<I", version) + name + struct.pack("<II", 3, 1)
    return head + name + rank + struct.pack("<BI", 0, length) + bytes(data) + end


def test_models_of_ctranslate2(tmp_path):
    folder = tmp_path / "m"
    assert model_file(folder, "model.bin", ct2()) is None
    for bad in (
        b"",
        ct2(version=9),
        ct2(shape=(2, 4)),
        ct2(shape=(1 << 31, 1 << 31, 4), length=0),
        ct2(length=1 << 31),
        ct2(data=20),
        ct2(data=28),
        ct2(end=b"\xff\xff\xff\xff"),
        ct2()[:-5],
    ):
        problem = model_file(folder, "model.bin", bad)
        assert problem == "is not a CTranslate2 model of version 6, or is truncated"
