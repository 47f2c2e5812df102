"""One pipeline.yaml per published system, and small ones that run anywhere.

A preset is a file of this folder, so its paths start with `../`, the repository's root. `written`
returns it with the paths of a file one folder up.
"""

import re
from importlib.resources import files

from ser.corpus.errors import UserError, similar

BASELINE = "the challenge's baseline"
# the published systems: by rank, with place and score on the challenge's test set, then later ones
PUBLISHED = {
    "ntua-medusa": "task 1: 1st, macro-F1 0.4316",
    "sail-categorical": "task 1: 2nd, macro-F1 0.4281",
    "abhinaya": "task 1: macro-F1 0.4181",
    "voinosis-mater": "4th in both: macro-F1 0.4101, CCC 0.5928",
    "unicamp": "task 1: 5th, macro-F1 0.4094",
    "nu": "task 1: macro-F1 0.4033",
    "bsc-upc": "task 1: macro-F1 0.4006",
    "ufg": "task 1: 8th, macro-F1 0.3979",
    "sail-attributes": "task 2: 1st, CCC 0.6076",
    "srpol": "task 2: 2nd, CCC 0.6003; macro-F1 0.3784",
    "seu-aiplab": "task 2: CCC 0.5955",
    "baseline-categorical": f"task 1: {BASELINE}, macro-F1 0.329",
    "baseline-attributes": f"task 2: {BASELINE}, CCC 0.579",
    "msp-podcast-soft": "2026: nine classes, votes of the raters",
}


def names() -> list[str]:
    """List the presets: the published systems by rank, then the others by name."""
    folder = files("ser.presets")
    installed = sorted(
        file.name.removesuffix(".yaml") for file in folder.iterdir() if file.name.endswith(".yaml")
    )
    ranked = [name for name in PUBLISHED if name in installed]
    return ranked + [name for name in installed if name not in PUBLISHED]


def preset(name: str) -> str:
    """Return the text of presets/<name>.yaml; raises `UserError` for an unknown name."""
    if name not in names():
        near = similar(name, names())
        hint = f"did you mean '{near}'?" if near else "`ser presets` lists them."
        raise UserError(f"there is no preset '{name}'; {hint}")
    return (files("ser.presets") / f"{name}.yaml").read_text(encoding="utf-8")


def written(name: str, path: str = "pipeline.yaml") -> str:
    """Return a preset for a file one folder up, called `path` in its comments."""
    return preset(name).replace("../", "").replace(f"presets/{name}.yaml", path)


def variables(text: str) -> list[str]:
    """List the environment variables in a pipeline's text, in order."""
    return list(dict.fromkeys(re.findall(r"\$\{(\w+)\}", text)))
