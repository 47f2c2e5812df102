import numpy as np
import polars as pl
import pytest

from ser.score.report import agreement, curves, figures
from ser.score.report.sections import sections
from tests.score.factories import system
from tests.score.report.conftest import top


def luminance(colour: str) -> float:
    """Return the relative luminance of #rrggbb (WCAG 2)."""
    channels = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def mixed(one: str, other: str, share: float) -> str:
    pairs = [(int(one[i : i + 2], 16), int(other[i : i + 2], 16)) for i in (1, 3, 5)]
    return "#" + "".join(f"{round(a + share * (b - a)):02x}" for a, b in pairs)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_numbers_can_be_read_on_every_cell_of_a_heatmap(theme):
    template = figures.templates()[theme]
    (_, low), (_, middle), (_, high) = template.layout.colorscale.sequential
    on_low, on_high = (trace.textfont.color for trace in template.data.heatmap)
    for share in np.linspace(0, 1, 21):
        assert contrast(on_low, mixed(low, middle, share)) >= 4.5
        assert contrast(on_high, mixed(middle, high, share)) >= 4.5


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_text_and_lines_stand_out_from_the_paper(theme):
    layout = figures.templates()[theme].layout
    assert contrast(layout.font.color, layout.paper_bgcolor) >= 7
    for colour in layout.colorway:
        assert contrast(colour, layout.paper_bgcolor) >= 3


def test_a_full_report_has_every_figure_once(whole):
    drawn = [figure for section in sections(whole) for figure in section.figures]
    assert [figure.name for figure in drawn] == [
        "confusion",
        "per-class",
        "bins",
        "reliability",
        "abstention",
        "votes",
        "groups",
        "top-k",
        "agreement",
        "curves",
    ]
    assert all(figure.caption and figure.label for figure in drawn)


def test_a_confusion_matrix_has_counts_on_colours_of_the_share_of_the_row():
    figure = figures.confusion_figure([[3, 1], [0, 0]], ["<b>sad</b>", "calm"], "x on test")
    low, high = figure.plot.data
    assert low.z == ([None, 0.25], [0.0, 0.0])
    assert high.z == ([0.75, None], [None, None])
    assert (low.text, high.text) == ((["", "1"], ["0", "0"]), (["3", ""], ["", ""]))
    assert np.array(low.customdata).tolist() == [[3, 1], [0, 0]]
    assert low.x == ("&lt;b&gt;sad&lt;/b&gt;", "calm")
    assert figure.square


def test_bars_are_of_the_classes_that_occur_and_one_speaker_has_no_interval():
    names = ["angry", "sad", "calm", "happy"]
    scores = system(
        per_class=dict(zip(names, (0.5, 0.0, 0.25, 1.0), strict=True)),
        confusion=[[1, 0, 0, 0], [0, 0, 0, 0], [0, 0, 2, 0], [0, 0, 0, 1]],
        interval={"per_class": dict.fromkeys(names) | {"angry": [0.25, 1.0]}},
    )
    (bars,) = figures.per_class_figure(scores.classes, "x on test").plot.data
    assert (bars.y, bars.x) == (("angry", "calm", "happy"), (0.5, 0.25, 1.0))
    assert (bars.error_x.array, bars.error_x.arrayminus) == ((0.5, 0, 0), (0.25, 0, 0))


def test_two_points_give_no_figure():
    group = {"n": 2, "macro_f1": 0.5, "interval": {"macro_f1": None}}
    scores = system(
        per_class={"angry": 0.5, "sad": 0.5},
        confusion=[[1, 1], [1, 1]],
        groups={"gender": {"female": group, "male": group}},
    )
    assert figures.per_class_figure(scores.classes, "x") is None
    assert figures.groups_figure(scores.groups, "x") is None
    two = pl.DataFrame({"system": ["a", "b"], "a": [1.0, 0.5], "b": [0.5, 1.0]})
    assert agreement.agreement_figure(two) is None
    assert curves.top_figure(top().filter(pl.col("k") < 3)) is None
    history = pl.DataFrame({"epoch": [0, 1], "train_loss": [2.0, 1.0]})
    assert curves.curves_figure({"a": history}, {"a": "macro_f1"}) is None
    bins = pl.DataFrame({"n": [1, 1], "confidence": [0.5, 0.6], "accuracy": [0.0, 1.0]})
    assert curves.reliability_figure(bins, "x") is None


def test_on_a_narrow_page_long_names_take_two_lines():
    names = ["stack", "whisper-minilm-prosody-wce"]
    assert [agreement._two_lines(name) for name in names] == [
        "stack",
        "whisper-minilm-<br>prosody-wce",
    ]


def test_many_systems_are_numbered_and_named_in_the_caption():
    names = [f"head-{i}" for i in range(10)]
    frame = pl.DataFrame({"system": names, **dict.fromkeys(names, [0.5] * 10)})
    figure = agreement.agreement_figure(frame)
    assert figure.narrow.data[0].y == tuple(str(i) for i in range(1, 11))
    assert figure.plot.data[0].y[9] == "head-9  10"
    assert figure.caption.endswith("8 head-7, 9 head-8, 10 head-9.")
    assert figure.least <= 358  # px of a phone
