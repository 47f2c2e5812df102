"""What is seen of heads in training."""

from ser.commands.live import LiveHeads, clock
from ser.commands.logs import start_logging
from ser.heads.run import HeadReport, Progress


def cells(live):
    return [
        list(row) for row in zip(*(column.cells for column in live.table().columns), strict=True)
    ]


def test_a_row_a_head_with_the_time_left_by_its_last_epoch(capsys):
    start_logging()
    live = LiveHeads()
    live.after_epoch(Progress("one", None, 1, 30, None, 10.0))
    live.after_epoch(Progress("two", 0, 7, 150, 0.61249, 100.0))
    assert cells(live) == [
        ["one", "", "1/30", "", "0:04:50"],
        ["two", "0", "7/150", "0.612", "3:58:20"],
    ]
    live.after_epoch(Progress("one", None, 2, 30, 0.5, 14.0))
    assert cells(live)[0] == ["one", "", "2/30", "0.500", "0:01:52"]
    live.after_epoch(Progress("one", None, 3, 30, 0.5, 2.0))  # another worker went on with it
    assert cells(live)[0] == ["one", "", "3/30", "0.500", "0:00:54"]
    report = HeadReport("one", "trained", 0.5, "uar", 30, 61.25)
    assert live.finish(report) is report
    assert [row[0] for row in cells(live)] == ["two"]
    assert capsys.readouterr().out == "heads    one: dev UAR 0.500, 30 epochs in 61.2 s\n"


def test_a_fine_tuned_model_leaves_the_table_when_it_is_done():
    live = LiveHeads()
    live.after_epoch(Progress("wavlm", None, 3, 20, 0.5, 10.0))
    assert cells(live) == [["wavlm", "", "3/20", "0.500", "0:02:50"]]
    live.drop("wavlm")
    assert cells(live) == []


def test_a_terminal_shows_the_table_and_keeps_the_lines(monkeypatch, capsys):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    start_logging()
    with LiveHeads() as live:
        live.after_epoch(Progress("one", None, 1, 30, None, 10.0))
        live.log("heads    2 at a time")
        live.finish(HeadReport("one", "failed", None, "ccc", 0, 1.0, "out of memory"))
    screen = capsys.readouterr().out
    assert "dev score" in screen and "1/30" in screen
    lines = [line for line in screen.replace("\r", "\n").split("\n") if "heads " in line]
    assert any("heads    2 at a time" in line for line in lines)
    assert any("heads    one: failed after 1.0 s: out of memory" in line for line in lines)


def test_clock():
    assert [clock(seconds) for seconds in (0.4, 59.6, 3599, 90061)] == [
        "0:00:00",
        "0:01:00",
        "0:59:59",
        "25:01:01",
    ]
