"""What `python -m bench.cold` runs, and how it counts."""

import sys
from pathlib import Path

from bench.cold import AIMS, TORCH, cold_rows, commands


def test_every_command_has_an_aim(tmp_path):
    calls = commands(tmp_path, Path("clip.wav"), Path("run"))
    assert list(calls) == [TORCH, *AIMS]
    assert calls["ser predict"] == calls["ser predict, all done"]  # the same call, twice


def test_commands_are_measured_in_turn_and_begin_each_round_anew(tmp_path):
    log = tmp_path / "log"
    code = (
        "import sys; from pathlib import Path; csv = Path(sys.argv[1]) / 'x.csv'\n"
        "with open(sys.argv[2], 'a') as log: print(csv.exists(), file=log)\n"
        "csv.touch(); print('done')"
    )
    calls = {TORCH: [sys.executable, "-c", "sum(range(10**7))"]}
    calls |= {name: [sys.executable, "-c", code, str(tmp_path), str(log)] for name in ("a", "b")}
    rows = cold_rows(calls, {"": tmp_path, " (before)": tmp_path}, 2, tmp_path)
    assert log.read_text().split() == ["False", "True"] * 4
    names = [f"{name}{version}" for version in ("", " (before)") for name in calls]
    assert [row.name for row in rows[::2]] == names
    assert all(row.value > 0 for row in rows)
    assert rows[1].value == 1
    assert rows[3].value < 1
