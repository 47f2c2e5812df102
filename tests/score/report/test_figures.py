import numpy as np
import pytest

from score.report import figures
from score.report.sections import sections


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
    (_, low), (_, high) = figures.templates()[theme].layout.colorscale.sequential
    for share in np.linspace(0, 1, 21):
        cell = mixed(low, high, share)
        red, green, blue = (int(cell[i : i + 2], 16) for i in (1, 3, 5))
        is_dark = (299 * red + 587 * green + 114 * blue) / 1000 < 128  # plotly's own rule
        assert contrast("#ffffff" if is_dark else "#444444", cell) >= 4.5


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_text_and_lines_stand_out_from_the_paper(theme):
    layout = figures.templates()[theme].layout
    assert contrast(layout.font.color, layout.paper_bgcolor) >= 7
    for colour in layout.colorway:
        assert contrast(colour, layout.paper_bgcolor) >= 3


def test_a_full_report_has_every_figure_once(full):
    drawn = [figure for section in sections(full) for figure in section.figures]
    assert [figure.name for figure in drawn] == [
        "confusion",
        "per-class",
        "curves",
        "top-k",
        "reliability",
        "groups",
        "agreement",
        "bins",
    ]
    assert all(figure.caption and figure.label for figure in drawn)


def test_confusion_is_in_percent_of_the_row_with_counts_and_names_are_escaped():
    figure = figures.confusion_figure([[3, 1], [0, 0]], ["<b>sad</b>", "calm"], "x on test")
    (heatmap,) = figure.plot.data
    assert heatmap.z == ([0.75, 0.25], [0.0, 0.0])
    assert heatmap.text == (["75", "25"], ["0", "0"])
    assert np.array(heatmap.customdata).tolist() == [[3, 1], [0, 0]]
    assert heatmap.x == ("&lt;b&gt;sad&lt;/b&gt;", "calm")


def test_bars_are_of_the_classes_that_occur_and_one_speaker_has_no_interval():
    numbers = {
        "per_class": {"angry": 0.5, "sad": 0.0, "calm": 0.25},
        "confusion": [[1, 0, 0], [0, 0, 0], [0, 0, 2]],
        "interval": {"per_class": {"angry": [0.25, 1.0], "sad": None, "calm": None}},
    }
    (bars,) = figures.per_class_figure(numbers, "x on test").plot.data
    assert (bars.x, bars.y) == (("angry", "calm"), (0.5, 0.25))
    assert (bars.error_y.array, bars.error_y.arrayminus) == ((0.5, 0), (0.25, 0))
