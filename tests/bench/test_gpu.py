"""`python -m bench.gpu` on the CPU, with tiny models: it runs whole, and its bounds judge."""

import json
from functools import partial
from pathlib import Path

import pytest
import torch

from bench import gpu, gpu_loop
from bench.gpu_models import MODELS
from bench.gpu_rows import Figure, Group, run
from ser.extract.testing import TEXTS
from ser.synthetic.models import tiny_model

MILLIONS = {  # published numbers of parameters, of Whisper those of its encoder
    "whisper-large-v3, full": 637,
    "hubert-xlarge": 962,
    "wavlm-large": 315,
    "roberta-large": 355,
    "deberta-v2-xxlarge": 1565,
}


def check(folder, *words):
    """Run the script; return the exit code and the rows."""
    file = folder / "gpu.json"
    options = ["--device", "cpu", "--tiny", "--folder", str(folder), "--json", str(file)]
    code = gpu.main([*options, *words])
    return code, gpu.Result.model_validate_json(file.read_text()).rows


def statuses(rows):
    return {(row.group, row.name): row.status for row in rows}


def test_the_script_runs_with_tiny_models(tmp_path, monkeypatch):
    monkeypatch.setattr(gpu, "COMPILED", ())  # minutes of C++
    groups = ["trim", "wavlm-large", "roberta-large", "GRU", "wavlm-roberta-wce", "published"]
    monkeypatch.chdir(tmp_path)
    code, rows = check(Path(), "--only", *groups, "one process")  # a relative --folder
    assert code == 0
    assert {row.status for row in rows} == {"passed", "measured"}
    assert all(row.value is not None for row in rows)
    found = statuses(rows)
    assert found["wavlm-large", "halving without memory"] == "passed"
    assert found["fine-tuning wavlm-large", "loss with checkpointing = without"] == "passed"
    assert found["one process, NCCL", "sum and gather"] == "passed"
    assert found["head wavlm-roberta-wce", "an epoch"] == "measured"
    assert found["wavlm-large", "loop / bare"] == "measured"  # speed is judged on a GPU only
    assert [*tmp_path.iterdir()] == [tmp_path / "gpu.json"]


@pytest.mark.slow  # the other models, FACodec at its true size; workers that import torch
def test_every_group_runs_with_tiny_models(tmp_path, monkeypatch):
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))  # no C++
    code, rows = check(tmp_path)
    assert code == 0
    groups = {row.group for row in rows}
    assert {model.name for model in MODELS} <= groups
    assert len([group for group in groups if group.startswith("head ")]) == 12
    found = statuses(rows)
    assert found["several heads, --jobs auto", "logits = one by one"] == "passed"
    assert found["head whisper-roberta-ns3-wce-sml", "logits = CPU, no TF32"] == "passed"


def test_what_there_is_no_time_for_is_skipped(tmp_path):
    code, rows = check(tmp_path, "--minutes", "0")
    assert code == 0
    assert {row.status for row in rows} == {"skipped"}
    assert len(rows) == len({row.group for row in rows}) > len(MODELS)


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["--only", "trim", "nosuchgroup"], "several heads, --jobs auto"),  # names of groups
        (["--device", "cuda"], "--device cuda: PyTorch sees 0 GPUs; use --device cpu --tiny."),
        (["--json", "absent/g.json"], "--json: absent is not a folder"),
        (["--folder", "absent"], "--folder: absent is not a folder"),
        (["--json", "."], "it is a folder; name a file."),
    ],
)
def test_a_mistake_costs_one_sentence(words, problem, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert gpu.main(["--device", "cpu", "--tiny", *words]) == 2
    err = capsys.readouterr().err
    assert problem in err
    assert err.count("\n") == 1
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize(
    "words", [["--device", "cpux"], ["--minutes", "-1"], ["--minutes=nan"], ["--minutes", "x"]]
)
def test_options_are_checked(words, capsys):
    with pytest.raises(SystemExit) as stopped:
        gpu.main(words)
    assert stopped.value.code == 2
    assert f"argument {words[0].partition('=')[0]}: " in capsys.readouterr().err


def test_a_row_that_fails_stops_no_other():
    def broken():
        raise RuntimeError("CUDA error")

    rows = [
        Figure("low", lambda: 0.5, "x", "≥", 0.95, speed=True),
        Figure("broken", broken, "x", "≥", 1),
        Figure("free", lambda: 3),
        Figure("exact", lambda: 0.1, "", "≤", 0.0),
    ]
    groups = [Group("a", broken), Group("b", lambda: rows)]
    judged = [*run(groups, 60, judge_speed=True)]
    expected = ["error", "failed", "error", "measured", "failed"]
    assert [outcome.status for outcome in judged] == expected
    assert judged[2].problem == "RuntimeError: CUDA error"
    assert [outcome.status for outcome in run(groups, 60, judge_speed=False)][1] == "measured"


@pytest.mark.parametrize(("terminated", "expected"), [(False, 130), (True, 143)])
def test_an_interrupted_run_keeps_its_rows(terminated, expected, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(gpu, "is_requested", lambda: terminated)

    def interrupt():
        rows = gpu.Result.read(tmp_path / "gpu.json").rows
        assert [row.name for row in rows] == ["first"]  # what a killed run would keep
        raise KeyboardInterrupt

    figures = [Figure("first", lambda: 1.5, "x"), Figure("second", interrupt), Figure("third", int)]
    monkeypatch.setattr(gpu, "_selected", lambda setting, only: [Group("a", lambda: figures)])
    code, rows = check(tmp_path)
    assert code == expected
    assert [(row.name, row.value) for row in rows] == [("first", 1.5)]
    assert "interrupted; 1 measured; " in capsys.readouterr().out.replace("\n", "")
    assert [*tmp_path.iterdir()] == [tmp_path / "gpu.json"]


@pytest.mark.parametrize(
    ("name", "peak"),
    [
        ("NVIDIA H100 80GB HBM3", 989e12),
        ("NVIDIA H100 PCIe", 756e12),
        ("NVIDIA L40S", 362e12),
        ("NVIDIA H100 80GB HBM3 MIG 3g.40gb", 2 * 8192**3 / 2.0),
        ("NVIDIA Other", 2 * 8192**3 / 2.0),
    ],
)
def test_the_peak_of_a_card(name, peak, monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: name)
    monkeypatch.setattr(torch, "ones", lambda *size, **_: None)
    monkeypatch.setattr(gpu_loop, "seconds_of", lambda *_: 2.0)
    assert gpu_loop.peak("cuda:1") == peak


def test_a_figure_that_is_no_number_is_an_error():
    group = Group("a", lambda: [Figure("r", lambda: float("nan"))])
    (outcome,) = run([group], 60, judge_speed=True)
    assert outcome.status == "error"
    json.dumps(outcome.model_dump(), allow_nan=False)


@pytest.mark.parametrize("name", MILLIONS)
def test_true_sizes_are_the_published_ones(name, tmp_path):
    model = next(model for model in MODELS if model.name == name)
    folder = tiny_model(model.kind, model.hub, tmp_path, TEXTS)
    built = model.build(folder, "meta")  # without memory
    counted = built.encoder if model.kind == "whisper" else built
    assert round(sum(p.numel() for p in counted.parameters()) / 1e6) == MILLIONS[name]
