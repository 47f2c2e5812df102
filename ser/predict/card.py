"""The model card of a bundle: what it scores, what it learned from, what it must not be used for.

Markdown, in the order of Mitchell et al. 2019, "Model Cards for Model Reporting". Every number is
read from report/metrics.json and the manifest; what is not known is said not to be.
"""

import importlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from cache.files import read_json
from corpus.errors import UserError
from corpus.importers.registry import BUILT_IN
from corpus.manifest import Manifest
from extract.models import card
from heads.job import read_done
from score.groups import GAP
from score.run import SCORED, STACK
from ser.predict.bundle import About

if TYPE_CHECKING:
    from ser.predict.predictor import Predictor

FORBIDS = {  # by how a licence's name begins
    "Apache-2.0": "nothing but leaving out its text, its notices and what was changed",
    "MIT": "nothing but leaving out its text",
    "CC BY-NC-SA": "commercial use, and passing changed weights on under other terms",
    "disputed: MIT or CC BY-SA": "by the stricter reading, changed weights under other terms",
    "Llama 3.1": "uses that its policy lists; its notice and the name Llama must be passed on",
    "audEERING": "commercial use",
}
HUB_ID = r"\w[\w.-]*/\w[\w.-]*"
USE = """\
For research, teaching and exploring one's own recordings: which emotion a listener would most
likely name for a stretch of speech.

- It tells how speech sounds to the raters of the corpus below, not what a person feels.
- **Not for decisions about people**: not for hiring, schooling, credit, insurance, policing, border
  control, the workplace or emergency calls. Where the EU's AI Act holds, inferring emotions at work
  and in education is forbidden but for medical and safety reasons.
- **Not a lie detector, and not medical**: it says nothing of truth, intent, health or risk.
- It has learned the language, the speakers, the microphones and the way of speaking of one corpus.
  Acted emotions are stronger than those of daily life; on other speech expect far lower scores.
- Probabilities are of the classes below only: anything else is forced into one of them.
- Gaps between groups of speakers that the scores show are passed on to every use of it.
"""


def write_card(predictor: "Predictor", about: About) -> str:
    """Return the card of a run that is packed; `about` needs no members yet.

    Raises `UserError` when the scores are of another stack.
    """
    name = STACK if predictor.stack is not None else predictor.heads[0]
    what = f"the stack {about.stack} over" if about.stack else "the head"
    told = [f"one of {len(about.classes)} emotions"] if about.classes else []
    told += [", ".join(about.attributes)] if about.attributes else []
    parts = [
        f"# {predictor.pipeline.run.name}",
        f"Hears speech and tells {' and '.join(told)}: {what} {', '.join(about.heads)}. Packed "
        f"{about.made} by ser {about.ser}.",
        *("## Intended use and limits", USE.rstrip()),
        *("## Scores", *_scores(predictor, name)),
        *("## Training data", *_data(predictor)),
        *("## Labels", _labels(about)),
        *("## Models and licences", *_models(about), *_fine_tuned(predictor)),
        *("## How to run", _commands(about)),
    ]
    return "\n\n".join(parts) + "\n"


def _scores(predictor: "Predictor", name: str) -> list[str]:
    path = predictor.run / "report" / "metrics.json"
    if not path.is_file():
        return ["It was not scored before it was packed (`ser score`)."]
    _require_same_stack(predictor)
    metrics = read_json(path, "run `ser score` again")
    parts = []
    for split in SCORED:
        found = metrics.get(split, {})
        systems = {n: found[n] for n in dict.fromkeys((name, *predictor.heads)) if n in found}
        if name not in systems:
            continue
        own = systems[name]
        parts += [
            f"On **{split}**, with 95 % intervals over {own['clusters']} speakers, in %:",
            *_class_scores(systems, own),
            *_attribute_scores(systems),
            *_group_scores(own["groups"]),
        ]
    return parts or [f"report/metrics.json has no score of {name}."]


def _class_scores(systems: Mapping[str, Any], own: Mapping[str, Any]) -> list[str]:
    names = {"macro_f1": "macro-F1", "uar": "UAR", "accuracy": "accuracy"}
    if "macro_f1" not in own:
        return []
    rows = [
        [name, str(s["n"]), *(_percent(s[key], s["interval"][key]) for key in names)]
        for name, s in systems.items()
        if "macro_f1" in s
    ]
    f1 = own["interval"]["per_class"]
    per_class = [[name, _percent(v, f1.get(name))] for name, v in own["per_class"].items()]
    return [_table(["system", "n", *names.values()], rows), _table(["class", "F1"], per_class)]


def _attribute_scores(systems: Mapping[str, Any]) -> list[str]:
    rows = [
        [name, attribute, str(s["n"]), _number(s["ccc"]) + _interval(s["interval"], _number)]
        for name, system in systems.items()
        for attribute, s in system.get("attributes", {}).items()
    ]
    return [_table(["system", "attribute", "n", "CCC"], rows)] if rows else []


def _group_scores(groups: Mapping[str, Mapping[str, Any]]) -> list[str]:
    rows = []
    for column, scored in groups.items():
        for group, numbers in scored.items():
            key = next((k for k in ("macro_f1", "ccc") if k in numbers), None)
            if group != GAP and key is not None:
                show = _percent if key == "macro_f1" else _number_of
                value = show(numbers[key], numbers["interval"][key])
                rows.append([f"{column}: {group}", str(numbers["n"]), key, value])
    return [_table(["group", "n", "score", "value"], rows)] if rows else []


def _require_same_stack(predictor: "Predictor") -> None:
    """Raise `UserError` when report/ was written for another stack than the run's."""
    report, stack = predictor.run / "report" / "predictions.csv", predictor.run / "stack"
    if predictor.stack is None or predictor.stack.teller is None or not report.is_file():
        return
    said = pl.read_csv(report, infer_schema=False).select("utterance", "prediction")
    now = pl.read_parquet(stack / "predictions.parquet").select("utterance", "prediction")
    both = said.join(now, "utterance", suffix=".now")
    if both.height != now.height or (both["prediction"] != both["prediction.now"]).any():
        raise UserError(
            f"{report}: it is of another stack than the run's, and so are the scores beside it; "
            "run `ser score` and pack again."
        )


def _data(predictor: "Predictor") -> list[str]:
    path, classes = predictor.pipeline.corpus.manifest, predictor.pipeline.corpus.classes
    folder = path.parent.name
    said = f"The manifest `{path.name}` of `{folder}/`. {_corpus(path.stem, folder)}"
    if not path.is_file():
        return [
            f"{said} It was not at hand when this was packed, so that its rows are not counted."
        ]
    frame = Manifest.read(path, classes).frame
    splits = [s for s in ("train", "dev", "test") if (frame["split"] == s).any()]
    rows = []
    for name in (*classes, None):
        of = frame.filter(
            pl.col("emotion").is_null() if name is None else pl.col("emotion") == name
        )
        counts = [of.filter(pl.col("split") == split).height for split in splits]
        if name is not None or any(counts):
            rows.append([name or "(none of these)", *map(str, counts)])
    by = [
        [gender or "unknown", *(_people(of.filter(pl.col("split") == split)) for split in splits)]
        for (gender,), of in frame.group_by("gender", maintain_order=True)
    ]
    by.append(["all", *(_people(frame.filter(pl.col("split") == split)) for split in splits)])
    return [said, _table(["utterances", *splits], rows), _table(["speakers", *splits], by)]


def _people(frame: pl.DataFrame) -> str:
    speakers = frame["speaker"].drop_nulls().n_unique()
    return f"{speakers or 'unknown'} ({frame.height} utterances)"


def _corpus(*names: str) -> str:
    """Say what the corpus is, where a name is that of one which ser imports."""
    for name in names:
        for module in BUILT_IN:
            if module != "table" and module.replace("_", "") in name.lower().replace("_", ""):
                about = importlib.import_module(f"corpus.importers.{module}").__doc__ or ""
                return about.splitlines()[0]
        if name == "demo":
            return "Synthetic speech of `ser demo`: its scores show the machinery, not the science."
    return "Whether its emotions are acted, and in which language, its own documentation says."


def _labels(about: About) -> str:
    said = [f"Emotions, in the order of the probabilities: {', '.join(about.classes)}."]
    rated = f"Attributes, from 1 to 7: {', '.join(about.attributes)}."
    return " ".join((said if about.classes else []) + ([rated] if about.attributes else []))


def _models(about: About) -> list[str]:
    allowed = {True: "yes", False: "no", None: "unknown"}
    rows = [
        [
            *(name, f.kind, f.model or "none", f.weights or "", f.licence),
            *(allowed[f.challenge] if f.model else "yes", "yes" if f.embedded else "no"),
        ]
        for name, f in about.features.items()
    ]
    head = ["feature", "kind", "model", "weights", "licence", "challenge", "embedded"]
    forbids = []
    for licence in dict.fromkeys(f.licence for f in about.features.values()):
        what = next((w for name, w in FORBIDS.items() if licence.startswith(name)), None)
        forbids.append(f"- {licence}: forbids {what}." if what else f"- {licence}.")
    return [
        _table(head, rows),
        "\n".join(forbids),
        "`challenge` tells whether the Interspeech 2025 challenge allows the model. The terms of "
        "the corpus hold for all that learned from it: the heads, the stack, fine-tuned models.",
    ]


def _fine_tuned(predictor: "Predictor") -> list[str]:
    lines = []
    for name in predictor.features.names:
        folder = Path(str(getattr(predictor.features.options[name], "model", "")))
        if (base := base_of(folder)) is None:
            continue
        own = folder.parent.parent.resolve() == predictor.run.resolve()
        where = "on the training data above" if own else "in another run, on data not told here"
        lines.append(f"- `{name}` was fine-tuned from {base}, {where}.")
    if not lines:
        return []
    said = "The licence and `challenge` of a fine-tuned model are those of what it was made from"
    return ["\n".join(lines), f"{said}; its weights exist nowhere but in its run and in here."]


def base_of(model: str | Path) -> str | None:
    """Name what the model in a folder was fine-tuned from; None where it was not, by `ser`.

    It is a short name, a hub id or "a local folder", never a path.
    """
    folder = Path(model)
    if folder.parent.name != "finetuned":
        return None
    done = read_done(folder.parent.parent, folder.name)
    if done.get("kind") != "finetuned":
        return None
    base = str(done["model"]["model"])
    return base if card(base) or re.fullmatch(HUB_ID, base) else "a local folder"


def _commands(about: About) -> str:
    needs = "heads" if all(f.model is None for f in about.features.values()) else "extract"
    packed = {f.model for f in about.features.values() if f.model and not f.embedded}
    also = f"It fetches {', '.join(sorted(packed))} where they are not there." if packed else ""
    code = f"pip install 'ser[{needs}]'\nser predict --run bundle.ser clip.wav"
    return f'```\n{code}\n```\n\nIn Python: `ser.load("bundle.ser")("clip.wav")`. {also}'.rstrip()


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _interval(interval: Sequence[float] | None, show: Any) -> str:
    return "" if interval is None else f" ({show(interval[0])} to {show(interval[1])})"


def _percent(value: float | None, interval: Sequence[float] | None) -> str:
    return (
        "unknown"
        if value is None
        else f"{100 * value:.1f}" + _interval(interval, lambda edge: f"{100 * edge:.1f}")
    )


def _number(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.3f}"


def _number_of(value: float | None, interval: Sequence[float] | None) -> str:
    return _number(value) + _interval(interval, _number)
