"""The plan for MSP-Podcast: by clips per second of gpu.json, or by arithmetic."""

import pytest

from bench.gpu_plan import PLAN, TURNS, estimated, main, measured
from bench.gpu_rows import Outcome, Result


def loop(group, rate):
    return Outcome(group=group, name="loop", status="measured", value=rate, unit="clips/s")


def result(rows, device="NVIDIA H100", tiny=False):
    common = {"started": "2026-11-29T12:00:00Z", "cpu": "", "versions": {}, "minutes": 5.0}
    return Result(device=device, tiny=tiny, rows=rows, **common)


def cells(text, name):
    return next(line.split() for line in text.splitlines() if line.strip().startswith(name))


def test_measured_rates_make_hours():
    rows = [loop(step.group, TURNS / 3_600) for step in PLAN if step.group]  # an hour each
    rows.append(Outcome(group="facodec", name="bare model", status="measured", value=1.0))
    text = measured("NVIDIA H100", rows)
    assert text.splitlines()[0] == "119,421 turns on one NVIDIA H100"
    assert cells(text, "wavlm-large") == ["wavlm-large", "33.2", "1.00", "69.70"]
    assert cells(text, "its words")[2:] == ["41.0", "0.81", "0.00", "(estimate)"]
    assert cells(text, "together")[1:] == ["6.81", "348.64"]


def test_a_model_that_was_not_measured_has_no_hours():
    text = measured("NVIDIA H100", [loop("wavlm-large", TURNS / 3_600)])
    assert cells(text, "facodec") == ["facodec", "not", "measured", "55.76"]
    total = ["together,", "1", "of", "6", "measured", "1.81", "69.70"]
    assert cells(text, "together") == total


def test_a_rate_that_failed_its_bound_is_not_measured():
    row = loop("wavlm-large", 1.0).model_copy(update={"status": "failed"})
    assert measured("NVIDIA H100", [row]) == measured("NVIDIA H100", [])


def test_without_a_file_it_is_arithmetic(capsys):
    assert main([]) == 0
    assert capsys.readouterr().out == estimated() + "\n"
    assert cells(estimated(), "wavlm-large")[1:] == ["37.3", "25.42", "0.06", "0.02", "69.70"]


def test_a_file_of_bench_gpu_is_read(tmp_path, capsys):
    file, rows = tmp_path / "gpu.json", [loop("wavlm-large", 1_000.0)]
    result(rows).write(file)
    assert main([str(file)]) == 0
    assert capsys.readouterr().out == measured("NVIDIA H100", rows) + "\n"


def refused(file, capsys):
    """Check that a file is refused in one line that names it and the remedy; return the line."""
    assert main([str(file)]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert err.startswith(f"{file}: ")
    assert "'python -m bench.gpu'" in err
    return err


@pytest.mark.parametrize("content", [b"", b"text", b"\xff\x00", b"{}", b"[]"])
def test_what_is_not_a_gpu_json_is_refused(content, tmp_path, capsys):
    file = tmp_path / "gpu.json"
    file.write_bytes(content)
    refused(file, capsys)


def test_a_missing_file_and_a_folder_are_refused(tmp_path, capsys):
    assert "missing" in refused(tmp_path / "none.json", capsys)
    refused(tmp_path, capsys)


@pytest.mark.parametrize("value", ['"1000"', "NaN", "Infinity", "0.0", "-1.5", "true"])
def test_a_rate_that_is_not_a_positive_number_is_refused(value, tmp_path, capsys):
    file = tmp_path / "gpu.json"
    text = result([loop("wavlm-large", 1_234.0)]).model_dump_json()
    file.write_text(text.replace("1234.0", value))
    assert "'rows.0" in refused(file, capsys)


@pytest.mark.parametrize("changes", [{"tiny": True}, {"device": "CPU"}])
def test_a_run_that_is_not_of_a_gpu_at_true_sizes_is_refused(changes, tmp_path, capsys):
    file = tmp_path / "gpu.json"
    result([loop("wavlm-large", 1_000.0)], **changes).write(file)
    assert "--tiny" in refused(file, capsys)


@pytest.mark.parametrize(("words", "code"), [(["--help"], 0), (["a.json", "b.json"], 2)])
def test_the_call_is_checked(words, code, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(words)
    assert stopped.value.code == code
