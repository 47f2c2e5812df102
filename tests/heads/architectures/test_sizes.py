"""The table of docs/heads.md: every architecture, its defaults, its parameters."""

import json
from pathlib import Path

import pytest
import torch

from ser.heads.config import parse_head
from ser.heads.head import build_head
from ser.heads.registry import HEADS

DOCS = Path(__file__).parents[3] / "docs" / "heads.md"
DIMS = {"whisper": 1280, "roberta": 1024}
SCORES = {"gpt": 8, "llama": 8}


def rows():
    section = DOCS.read_text().split("\n## Architectures\n")[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("| `")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {name.strip("`"): rest for name, *rest in cells if name.strip("`") in HEADS.built_in}


def test_the_table_has_every_architecture():
    assert list(rows()) == list(HEADS.built_in)


@pytest.mark.parametrize("name", HEADS.built_in)
def test_the_table_has_the_options_and_the_parameters(name):
    _, _, options, parameters = rows()[name]
    for key, default in HEADS.about(name)().model_dump().items():
        assert f"`{key}: {json.dumps(default)}`".replace('"', "") in options
    dims = SCORES if name == "class_scores" else DIMS
    with torch.device("meta"):
        module = build_head(parse_head({"head": name, "features": list(dims)}), dims, {"logits": 8})
    assert f"{sum(p.numel() for p in module.parameters()):,}" == parameters
