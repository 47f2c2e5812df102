"""The plan for MSP-Podcast: by clips per second of gpu.json, or by arithmetic."""

import pytest

from bench.gpu_plan import PLAN, TURNS, estimated, main, measured
from bench.gpu_rows import Outcome, Result


def loop(group, rate):
    return Outcome(group=group, name="loop", status="measured", value=rate, unit="clips/s")


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
    assert cells(text, "together")[1] == "1.81"


def test_without_a_file_it_is_arithmetic(capsys):
    main([])
    assert capsys.readouterr().out == estimated() + "\n"
    assert cells(estimated(), "wavlm-large")[1:] == ["37.3", "25.42", "0.06", "0.02", "69.70"]


def test_a_file_of_bench_gpu_is_read(tmp_path, capsys):
    file, rows = tmp_path / "gpu.json", [loop("wavlm-large", 1_000.0)]
    common = {"started": "2026-11-29T12:00:00Z", "cpu": "", "versions": {}, "minutes": 5.0}
    result = Result(device="NVIDIA H100", tiny=False, rows=rows, **common)
    file.write_text(result.model_dump_json())
    main([str(file)])
    assert capsys.readouterr().out == measured("NVIDIA H100", rows) + "\n"
    with pytest.raises(FileNotFoundError):
        main([str(tmp_path / "none.json")])
