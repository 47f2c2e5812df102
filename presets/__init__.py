"""One pipeline.yaml per published system, and small ones that run anywhere.

A preset is a file of this folder, so its paths start with `../`: the folder above, which is the
repository's root. `written` is the same file as it is one folder up.
"""

import re
from difflib import get_close_matches
from importlib.resources import files

from corpus.errors import UserError

BASELINE = "the challenge's baseline"
# the published systems by their rank: the place and the score on the challenge's test set
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
}


def names() -> list[str]:
    """List the presets: the published systems by their rank, then the others by name."""
    found = (file.name for file in files("presets").iterdir() if file.name.endswith(".yaml"))
    there = sorted(name.removesuffix(".yaml") for name in found)
    return [n for n in PUBLISHED if n in there] + [n for n in there if n not in PUBLISHED]


def preset(name: str) -> str:
    """Return the text of presets/<name>.yaml; raises `UserError` when there is none."""
    if name not in names():
        near = get_close_matches(name, names(), n=1)
        hint = f"did you mean '{near[0]}'?" if near else "`ser presets` lists them."
        raise UserError(f"there is no preset '{name}'; {hint}")
    return (files("presets") / f"{name}.yaml").read_text(encoding="utf-8")


def written(name: str, path: str = "pipeline.yaml") -> str:
    """Return a preset as it is one folder up, called `path` in the commands of its comments."""
    return preset(name).replace("../", "").replace(f"presets/{name}.yaml", path)


def variables(text: str) -> list[str]:
    """List the environment variables that a pipeline's text takes, in order."""
    return list(dict.fromkeys(re.findall(r"\$\{(\w+)\}", text)))
