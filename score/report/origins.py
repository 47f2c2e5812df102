"""The tables of a run's setup: heads, features, stack, versions and machines."""

from collections.abc import Mapping
from typing import Any

import polars as pl

from ser.corpus.errors import plural
from ser.corpus.machine import PACKAGES, machine, versions
from ser.score.report.contents import Contents
from ser.score.report.formats import Schema, Table, frame_of


def heads_table(contents: Contents) -> Table:
    """Make the table of how each head was trained."""
    schema: Schema = dict.fromkeys(("Head", "Fingerprint", "Architecture"), pl.String)
    schema |= {"Trainings": pl.Int64, "Epochs": pl.Int64, "Minutes": pl.Float64}
    schema |= {"Seed": pl.Int64, "Trained on": pl.String}
    rows = [
        (
            name,
            head.fingerprint,
            head.summary.config.head,
            None if head.summary.best_epochs is None else len(head.summary.best_epochs),
            head.summary.epochs,
            None if head.summary.seconds is None else head.summary.seconds / 60,
            head.summary.config.seed,
            None if head.summary.machine is None else _machine_text(head.summary.machine),
        )
        for name, head in contents.heads.items()
    ]
    caption = "The heads. Epochs and minutes are summed over the trainings (folds) of a head."
    return Table(
        "heads", caption, frame_of(rows, schema), digits={"Minutes": 1}, wraps="Trained on"
    )


def features_table(contents: Contents) -> Table:
    """Make the table of the features that heads read, by fingerprint."""
    readers: dict[tuple[str, str], list[str]] = {}
    for name, head in contents.heads.items():
        for feature in head.features.items():
            readers.setdefault(feature, []).append(name)
    rows = [(*feature, ", ".join(names)) for feature, names in readers.items()]
    schema: Schema = dict.fromkeys(("Feature", "Fingerprint", "Read by"), pl.String)
    caption = "The features. A fingerprint covers everything that changes a feature's numbers."
    return Table("features", caption, frame_of(rows, schema), wraps="Read by")


def setup_table(contents: Contents) -> Table:
    """Make the table of the stack, the versions and the machine that wrote the report."""
    rows = [("run", contents.run.name)]
    if (stack := contents.stack) is not None:
        config = stack.config
        rows += [
            ("stack", f"{config.model} over {plural(len(stack.heads), 'head')}"),
            ("stack fingerprint", stack.fingerprint),
        ]
        if stack.candidates:
            scores = ", ".join(f"{c.model} {c.macro_f1:.3f}" for c in stack.candidates)
            rows.append(("stack candidates", f"{scores} (macro-F1 of held-out training rows)"))
        if stack.rows:
            rows.append(("stack fitted on", plural(stack.rows, "utterance")))
            rows.append(("stack protocol", f"{stack.protocol}, seed {config.seed}"))
    trained = [head.summary.versions for head in contents.heads.values() if head.summary.versions]
    installed = versions()
    for package in ("python", "ser", *PACKAGES):
        then = dict.fromkeys(recorded[package] for recorded in trained if package in recorded)
        text = installed.get(package, "not installed")
        if then and list(then) != [text]:
            text += f" (heads trained with {', '.join(then)})"
        rows.append((package, text))
    rows.append(("machine of this report", _machine_text(machine())))
    schema = {"Setting": pl.String, "Value": pl.String}
    caption = "The stack, the versions and the machine."
    return Table("setup", caption, frame_of(rows, schema), wraps="Value")


def _machine_text(facts: Mapping[str, Any]) -> str:
    parts = [
        facts.get("gpu"),
        facts.get("cpu"),
        f"{facts['cores']} cores" if facts.get("cores") else None,
        f"{facts['memory_gb']:g} GB" if facts.get("memory_gb") else None,
        f"device {facts['device']}" if facts.get("device") else None,
        facts.get("platform"),
    ]
    return ", ".join(filter(None, parts))
