"""One pipeline.yaml per published system, and small ones that run anywhere.

A preset is a file of this folder, so its paths start with `../`, the repository's root. `written`
returns it with the paths of a file one folder up.
"""

import re
from importlib.resources import files

from ser.corpus.errors import UserError, similar

CHALLENGE = "Interspeech 2025 challenge on MSP-Podcast"
EMOTIONS = f"{CHALLENGE}, eight emotions"
ATTRIBUTES = f"{CHALLENGE}, arousal, valence and dominance"
# the published systems: by rank, with place and score on the challenge's test set, then later ones
PUBLISHED = {
    "ntua-medusa": f"{EMOTIONS}: 1st, macro-F1 0.4316",
    "sail-categorical": f"{EMOTIONS}: 2nd, macro-F1 0.4281",
    "abhinaya": f"{EMOTIONS}: macro-F1 0.4181",
    "voinosis-mater": f"{EMOTIONS}: 4th, macro-F1 0.4101; attributes: 4th, mean CCC 0.5928",
    "unicamp": f"{EMOTIONS}: 5th, macro-F1 0.4094",
    "nu": f"{EMOTIONS}: macro-F1 0.4033",
    "bsc-upc": f"{EMOTIONS}: macro-F1 0.4006",
    "ufg": f"{EMOTIONS}: 8th, macro-F1 0.3979",
    "sail-attributes": f"{ATTRIBUTES}: 1st, mean CCC 0.6076",
    "srpol": f"{ATTRIBUTES}: 2nd, mean CCC 0.6003; emotions: macro-F1 0.3784",
    "seu-aiplab": f"{ATTRIBUTES}: mean CCC 0.5955",
    "baseline-categorical": f"{EMOTIONS}: the organizers' baseline, macro-F1 0.329",
    "baseline-attributes": f"{ATTRIBUTES}: the organizers' baseline, mean CCC 0.579",
    "msp-podcast-soft": "MSP-Podcast 2.0, nine classes: learns the shares of the raters' votes",
}
DESCRIPTIONS = PUBLISHED | {
    "acted-speakers": "EMOVO (Italian, acted): every speaker tested once, beside a plain baseline",
    "demo": "synthetic speech: what `ser demo` runs, without a corpus",
    "emobox-folds": "a data set of EmoBox in its published folds, each tested once",
    "emodb-speakers": "EmoDB (German, acted): each of the ten speakers tested once",
    "emodb-tiny": "EmoDB (German, acted): models that fit a laptop, one split",
    "iemocap-sessions": "IEMOCAP, four emotions: each of the five sessions tested once",
    "ravdess-finetune": "RAVDESS (English, acted): frozen, adapted and fine-tuned Whisper compared",
    "ravdess-heads": "RAVDESS (English, acted): heads, losses and samplers compared",
    "ravdess-stack": "RAVDESS (English, acted): a small stack of heads, one split",
    "ravdess-tiny": "RAVDESS (English, acted): models that fit a laptop, one split",
    "shelf": "RAVDESS, EmoDB and EMOVO joined: the model that ser ships",
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
