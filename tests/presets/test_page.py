"""The table of docs/presets.md says what the files say."""

import re
from pathlib import Path

import pytest

from ser.presets import PUBLISHED
from ser.smoke.catalogue import load

PAGE = (Path(__file__).parents[2] / "docs" / "presets.md").read_text()
ROWS = {
    cells[1].strip(" `"): [cell.strip() for cell in cells[2:-1]]
    for cells in (line.split("|") for line in PAGE.splitlines() if line.startswith("| `"))
}


def test_every_published_system_has_a_row_in_order():
    assert list(ROWS) == list(PUBLISHED)


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_row_is_as_its_file(name):
    result, _, heads, losses, imbalance, ensemble, seconds, _ = ROWS[name]
    pipeline = load(name)
    configs = [*pipeline.heads.values(), *(c.training for c in pipeline.finetune.values())]
    for score in re.findall(r"0\.\d+", PUBLISHED[name]):
        assert score in result
    kinds = [config.head for config in configs]
    assert {kind: int(count) for count, kind in re.findall(r"(\d+) × `(\w+)`", heads)} == {
        kind: kinds.count(kind) for kind in kinds
    }
    stages = [stage for config in configs for stage in config.stages if stage.epochs]
    assert set(re.findall(r"`(\w+)`", losses)) == {use.name for s in stages for use in s.loss}
    samplers = {stage.sampler.name for stage in stages} - {"natural"}
    assert set(re.findall(r"`(\w+)`", imbalance)) == samplers
    if {config.no_consensus for config in configs} >= {"keep"} and "votes" not in losses:
        assert "consensus" in imbalance or "raters" in imbalance
    if named := re.match(r"`(\w+)`", ensemble):
        assert named[1] == pipeline.stack.model
    assert re.fullmatch(r"\d+ s", seconds)
