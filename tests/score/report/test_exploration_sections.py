from dataclasses import replace

import numpy as np
import polars as pl

from ser.score.report.exploration import EmbeddingMap, Exploration
from ser.score.report.exploration_sections import (
    data_section,
    durations_figure,
    layers_figure,
    layers_section,
    map_section,
    speakers_figure,
)
from ser.score.report.sections import sections

COUNTS = pl.DataFrame(
    [
        ("sad", "x", "train"),
        ("angry", "x", "train"),
        ("angry", "x", "dev"),
        ("angry", "y", "test"),
        ("sad", "z<", "train"),
        ("sad", None, ""),
    ],
    ["emotion", "speaker", "split"],
    orient="row",
)
MAP = EmbeddingMap(
    "toy",
    pl.DataFrame({"x": [0.0, 1.0, 2.0], "y": [1.0, 0.0, 1.0], "emotion": ["a", "b", "b"]}),
    {"emotion": 0.25, "speaker": 0.5},
    0.4,
    5,
)
LANGUAGES = pl.DataFrame({"corpus": ["a"], "language": ["de"], "utterances": [6], "speakers": [3]})


def test_data_has_classes_by_split_speaker_language_and_durations(whole):
    explored = Exploration(COUNTS, LANGUAGES, np.array([0.5, 1.0, 1.5, 2.0]), "the manifest")
    section = data_section(replace(whole, exploration=explored))
    classes, languages = section.tables
    assert classes.frame.columns == [
        *("Class", "Train", "Dev", "Test", "No split"),
        *("Speakers", "Fewest of one", "Most of one"),
    ]
    assert classes.frame.rows() == [("angry", 1, 1, 1, 0, 2, 1, 2), ("sad", 2, 0, 0, 1, 2, 1, 1)]
    assert languages.frame.rows() == [("a", "de", 6, 3)]
    speakers, durations = section.figures
    (low, high) = speakers.plot.data
    assert list(map(list, low.customdata)) == [[2, 1, 0], [1, 0, 1]]
    assert list(high.x) == ["x", "y", "z&lt;"]
    (bars,) = durations.plot.data
    assert sum(bars.y) == 4
    assert "median 1.25 s, 0.50 to 2.00 s" in durations.caption


def test_the_map_states_whether_emotion_or_speaker_groups_more(whole):
    section = map_section(replace(whole, exploration=Exploration(embeddings=MAP)))
    assert section.text.startswith("The frames of toy, averaged over time, of 3 of 5 utterances:")
    assert section.text.endswith(
        "Utterances group more by speaker than by class (0.250 by class, 0.500 by speaker)."
    )
    overlapping = replace(MAP, silhouette={"emotion": 0.02, "speaker": -0.01})
    neither = map_section(replace(whole, exploration=Exploration(embeddings=overlapping)))
    assert neither.text.endswith(
        "Utterances group neither by class nor by speaker (0.020 by class, -0.010 by speaker)."
    )
    (table,) = section.tables
    assert table.frame.rows() == [("Class", 0.25), ("Speaker", 0.5)]
    (figure,) = section.figures
    assert figure.caption == "Pooled embeddings of toy by class: silhouette 0.250."
    assert {trace.name: list(trace.x) for trace in figure.plot.data} == {"a": [0], "b": [1, 2]}


def test_layer_weights_name_the_highest_layer(whole):
    layers = {"one": {"toy": [0.25, 0.5, 0.25]}}
    section = layers_section(replace(whole, exploration=Exploration(layers=layers)))
    assert section.tables[0].frame.rows() == [("one", "toy", 3, 1, 0.5)]
    assert list(section.figures[0].plot.data[0].y) == [0.25, 0.5, 0.25]


def test_few_points_are_a_table_and_no_data_no_section(whole):
    assert speakers_figure(COUNTS.filter(pl.col("speaker") == "x")) is None
    assert durations_figure(np.ones(9), "") is None
    assert layers_figure({"one": {"toy": [0.5, 0.5]}}) is None
    names = [section.name for section in sections(replace(whole, exploration=Exploration()))]
    assert not {"data", "map", "layers"} & set(names)
