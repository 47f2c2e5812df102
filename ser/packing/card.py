"""The model card of a bundle: intended use, scores, training data, licences.

Markdown, in the order of Mitchell et al. 2019, "Model Cards for Model Reporting". Every number is
read from report/metrics.json and the manifest; what is unknown is called unknown.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from ser.corpus.classes import read_with_classes
from ser.corpus.errors import UserError
from ser.extract.registry import card
from ser.heads.record import read_done
from ser.packing.corpora import describe_corpus
from ser.packing.evaluation_tables import evaluation_sections
from ser.packing.markdown import number, percent, table
from ser.predict.record import BundleRecord
from ser.score import baseline
from ser.score.metrics import REPORTED, TITLES
from ser.score.record import scores_are_current
from ser.score.run import SCORED, STACK
from ser.score.scores import Groups, Score, SystemScores, read_metrics
from ser.score.speakers import FEW, not_available, shown_interval, too_few
from ser.version import install

if TYPE_CHECKING:
    from ser.predict.predictor import Predictor

FORBIDS = {  # by the start of a licence's name
    "Apache-2.0": "omitting its text, its notices and the list of changes",
    "MIT": "omitting its text",
    "CC BY-NC-SA": "commercial use, and sharing changed weights under other terms",
    "disputed: MIT or CC BY-SA": "by the stricter, sharing changed weights under other terms",
    "Llama 3.1": "the uses that its policy lists; its notice and the name Llama must be kept",
    "audEERING": "commercial use",
}
HUB_ID = r"\w[\w.-]*/\w[\w.-]*"
USE = """\
For research, teaching and exploring one's own recordings: which emotion a listener would most
likely name for a stretch of speech.

- It predicts how speech sounds to the annotators of the corpora below, not what a person feels.
- **Not for decisions about people**: not for hiring, schooling, credit, insurance, policing, border
  control, the workplace or emergency calls. Where the EU's AI Act holds, inferring emotions at work
  and in education is forbidden except for medical and safety reasons.
- **Not a lie detector, and not medical**: it shows nothing about truth, intent, health or risk.
- It has learned the languages, speakers, microphones and ways of speaking of the corpora below.
  Acted emotions are stronger than those of daily life; on other speech expect far lower scores.
- Probabilities cover the classes below only: any other emotion is forced into one of them.
- Differences between groups of speakers in the scores affect every use of the model.
"""


def write_card(predictor: "Predictor", record: BundleRecord) -> str:
    """Return the card of a run; the members of `record` may be missing yet.

    Raises `UserError` when the scores are of another stack.
    """
    name = STACK if predictor.stack is not None else predictor.heads[0]
    what = f"the stack {record.stack} over" if record.stack else "the head"
    outputs = [f"one of {len(record.classes)} emotions"] if record.classes else []
    outputs += [", ".join(record.attributes)] if record.attributes else []
    unseen = [] if record.evaluation is None else evaluation_sections(record.evaluation)
    parts = [
        f"# {predictor.pipeline.run.name}",
        f"Predicts {' and '.join(outputs)} from speech, by {what} {', '.join(record.heads)}. "
        f"Packed {record.made} by ser {record.ser}.",
        *(f"**{note}**" for note in predictor.notes),
        "## Intended use and limits",
        USE.rstrip(),
        *unseen,
        "## Scores",
        *_scores(predictor, name),
        "## Training data",
        *_data(predictor),
        "## Labels",
        _labels(record),
        "## Models and licences",
        *licence_terms(record),
        *_models(record),
        *_fine_tuned(predictor),
        "## How to run",
        _commands(record),
    ]
    return "\n\n".join(parts) + "\n"


def _scores(predictor: "Predictor", name: str) -> list[str]:
    path = predictor.run / "report" / "metrics.json"
    if not path.is_file():
        return ["The run was not scored before packing (`ser score`)."]
    if predictor.stack is not None and not scores_are_current(predictor.run):
        raise UserError(
            f"{predictor.run / 'report' / 'predictions.csv'}: it belongs to another stack than the "
            "run's, as do the scores beside it; run `ser score` and pack again."
        )
    metrics = read_metrics(path)
    parts = []
    for split in SCORED:
        scored = metrics.get(split, {})
        shown = dict.fromkeys((name, *predictor.heads, baseline.name_of(scored) or name))
        systems = {n: scored[n] for n in shown if n in scored}
        if name not in systems:
            continue
        own = systems[name]
        parts += [
            _split_title(split, own.speakers),
            *_class_scores(systems, own),
            *_attribute_scores(systems),
            *_group_scores(own.groups),
        ]
    return parts or [f"report/metrics.json has no scores of {name}."]


def _split_title(split: str, speakers: int | None) -> str:
    if too_few(speakers):
        return f"On **{split}**, in %; intervals {not_available(speakers)}:"
    over = "utterances, as no speaker is known" if speakers is None else f"{speakers} speakers"
    title = f"On **{split}**, in %, with 95 % intervals over {over}"
    return f"{title} (rough):" if speakers is not None and speakers < FEW else f"{title}:"


def _class_scores(systems: Mapping[str, SystemScores], own: SystemScores) -> list[str]:
    if own.classes is None:
        return []
    shown = baseline.labels(systems, "macro_f1")
    rows = [
        [shown[name], str(c.n), *(_percent(c.scores[metric], s.speakers) for metric in REPORTED)]
        for name, s in systems.items()
        if (c := s.classes) is not None
    ]
    f1 = [[name, _percent(s, own.speakers)] for name, s in own.classes.per_class.items()]
    head = ["system", "n", *(TITLES[metric] for metric in REPORTED)]
    note = baseline.note(shown, baseline.name_of(systems))
    return [table(head, rows), *([note] if note else []), table(["class", "F1"], f1)]


def _percent(score: Score, speakers: int | None) -> str:
    return percent(score.value, shown_interval(score.interval, speakers))


def _attribute_scores(systems: Mapping[str, SystemScores]) -> list[str]:
    shown, rows = baseline.labels(systems, "ccc"), []
    for name, system in systems.items():
        for attribute, s in system.attributes.items():
            ccc = number(s.ccc, shown_interval(s.interval, system.speakers))
            rows.append([shown[name], attribute, str(s.n), ccc])
    return [table(["system", "attribute", "n", "CCC"], rows)] if rows else []


def _group_scores(columns: Mapping[str, Groups]) -> list[str]:
    rows = []
    for column, scored in columns.items():
        for name, group in scored.groups.items():
            metric = next((m for m in ("macro_f1", "ccc") if m in group.scores), None)
            if metric is not None:
                score, show = group.scores[metric], percent if metric == "macro_f1" else number
                value = show(score.value, score.interval)
                rows.append([f"{column}: {name}", str(group.n), metric, value])
    return [table(["group", "n", "score", "value"], rows)] if rows else []


def _data(predictor: "Predictor") -> list[str]:
    path, classes = predictor.pipeline.corpus.manifest, predictor.pipeline.corpus.classes
    folder = path.parent.name
    corpus = f"The manifest `{path.name}` in `{folder}/`. {describe_corpus(path.stem, folder)}"
    if not path.is_file():
        return [f"{corpus} The manifest was not available at packing, so its rows are not counted."]
    frame = read_with_classes(predictor.pipeline.corpus).frame
    splits = [s for s in ("train", "dev", "test") if (frame["split"] == s).any()]
    rows = []
    for name in (*classes, None):
        in_class = frame.filter(pl.col("emotion").eq_missing(name))["split"]
        counts = [(in_class == split).sum() for split in splits]
        if name is not None or any(counts):
            rows.append([name or "(none of these)", *map(str, counts)])
    by_gender = [
        [gender or "unknown", *(_speakers(group.filter(pl.col("split") == s)) for s in splits)]
        for (gender,), group in frame.group_by("gender", maintain_order=True)
    ]
    by_gender.append(["all", *(_speakers(frame.filter(pl.col("split") == s)) for s in splits)])
    return [corpus, table(["utterances", *splits], rows), table(["speakers", *splits], by_gender)]


def _speakers(frame: pl.DataFrame) -> str:
    speakers = frame["speaker"].drop_nulls().n_unique()
    return f"{speakers or 'unknown'} ({frame.height} utterances)"


def _labels(record: BundleRecord) -> str:
    labels = []
    if record.classes:
        labels.append(f"Emotions, in the order of the probabilities: {', '.join(record.classes)}.")
    if record.attributes:
        labels.append(f"Attributes, from 1 to 7: {', '.join(record.attributes)}.")
    return " ".join(labels)


def licence_terms(record: BundleRecord) -> list[str]:
    """Return the licence of the weights, and the terms of the corpora that they come from."""
    terms = []
    if record.licence:
        terms.append(f"**Licence of the weights in this bundle: {record.licence}.**")
    if record.evaluation is not None:
        corpora = "; ".join(f"{c.name}: {c.licence}" for c in record.evaluation.corpora)
        terms.append(f"Terms of the corpora: {corpora}.")
    return terms


def _models(record: BundleRecord) -> list[str]:
    allowed = {True: "yes", False: "no", None: "unknown"}
    rows = [
        [
            name,
            f.kind,
            f.model or "none",
            f.weights or "",
            f.licence,
            allowed[f.challenge] if f.model else "yes",
            "yes" if f.embedded else "no",
        ]
        for name, f in record.features.items()
    ]
    head = ["feature", "kind", "model", "weights", "licence", "challenge", "embedded"]
    forbids = []
    for licence in dict.fromkeys(f.licence for f in record.features.values()):
        what = next((w for name, w in FORBIDS.items() if licence.startswith(name)), None)
        forbids.append(f"- {licence}: forbids {what}." if what else f"- {licence}.")
    return [
        table(head, rows),
        "\n".join(forbids),
        "`challenge`: whether the Interspeech 2025 challenge allows the model. The terms of the "
        "corpus cover everything trained on it: the heads, the stack, fine-tuned models.",
    ]


def _fine_tuned(predictor: "Predictor") -> list[str]:
    lines = []
    for name in predictor.features.names:
        folder = Path(predictor.features.options[name].pretrained or "")
        if (base := base_of(folder)) is None:
            continue
        own = folder.parent.parent.resolve() == predictor.run.resolve()
        where = "on the training data above" if own else "in another run, on data unknown here"
        lines.append(f"- `{name}` was fine-tuned from {base}, {where}.")
    if not lines:
        return []
    terms = "The licence and `challenge` of a fine-tuned model are those of its base model"
    return ["\n".join(lines), f"{terms}; its weights exist only in its run and in this bundle."]


def base_of(model: str | Path) -> str | None:
    """Name the base of a model that `ser` fine-tuned in a folder; None for any other folder.

    The name is a short name, a hub id or "a local folder", never a path.
    """
    folder = Path(model)
    if folder.parent.name != "finetuned":
        return None
    record = read_done(folder.parent.parent, folder.name)
    if record is None or record.kind != "finetuned" or record.model is None:
        return None
    base = str(record.model.get("model"))
    return base if card(base) or re.fullmatch(HUB_ID, base) else "a local folder"


def _commands(record: BundleRecord) -> str:
    used = sorted({f.model for f in record.features.values() if f.model and not f.embedded})
    packaged = [name for name in used if (known := card(name)) is not None and known.package]
    fetched = [name for name in used if name not in packaged]
    models = any(f.model for f in record.features.values())
    needs = "demo" if packaged else "extract" if models else "heads"
    also = f"The extra `demo` has the weights of {', '.join(packaged)}. " if packaged else ""
    also += f"It downloads {', '.join(fetched)} where missing." if fetched else ""
    code = f"{install(needs)}\nser predict --run bundle.ser clip.wav"
    return f'```\n{code}\n```\n\nIn Python: `ser.load("bundle.ser")("clip.wav")`. {also}'.rstrip()
