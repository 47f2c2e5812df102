"""The tables of what was run: heads, features, stack, versions and machines."""

from collections.abc import Mapping
from typing import Any

import polars as pl

from score.report.contents import Contents, Head
from score.report.formats import Table, frame_of
from score.report.provenance import PACKAGES, machine, versions


def heads_table(contents: Contents) -> Table:
    """Make the table of how each head came to be."""
    schema = {
        "Head": pl.String,
        "Fingerprint": pl.String,
        "Architecture": pl.String,
        "Trainings": pl.Int64,
        "Epochs": pl.Int64,
        "Minutes": pl.Float64,
        "Seed": pl.Int64,
        "Trained on": pl.String,
    }
    rows = [
        (
            name,
            head.fingerprint,
            head.about.get("config", {}).get("head"),
            len(head.about["best_epochs"]) if "best_epochs" in head.about else None,
            head.about.get("epochs"),
            head.about["seconds"] / 60 if "seconds" in head.about else None,
            head.about.get("config", {}).get("seed"),
            _trained_on(head),
        )
        for name, head in contents.heads.items()
    ]
    caption = "The heads; epochs and minutes are of all trainings of a head together."
    return Table("heads", caption, frame_of(rows, schema), digits={"Minutes": 1})


def features_table(contents: Contents) -> Table:
    """Make the table of the features that heads read, by fingerprint."""
    read: dict[tuple[str, str], list[str]] = {}
    for name, head in contents.heads.items():
        for feature in head.features.items():
            read.setdefault(feature, []).append(name)
    rows = [(*feature, ", ".join(names)) for feature, names in read.items()]
    schema = dict.fromkeys(("Feature", "Fingerprint", "Read by"), pl.String)
    caption = "The features; a fingerprint is of everything that changes the numbers."
    return Table("features", caption, frame_of(rows, schema), folds="Read by")


def made_table(contents: Contents) -> Table:
    """Make the table of the stack, the versions and the machine that wrote the report."""
    rows = [("run", contents.run.name)]
    if (stack := contents.stack) is not None:
        config = stack["config"]
        rows += [
            ("stack", f"{config['model']} over {len(stack['heads'])} heads"),
            ("stack fingerprint", stack["fingerprint"]),
        ]
        if stack["rows"]:
            how = f"{stack['rows']} utterances, protocol {stack['protocol']}, seed {config['seed']}"
            rows.append(("stack fitted on", how))
    trained = [
        head.about["versions"] for head in contents.heads.values() if "versions" in head.about
    ]
    here = versions()
    for package in dict.fromkeys(["python", *PACKAGES]):
        then = dict.fromkeys(each[package] for each in trained if package in each)
        text = here.get(package, "not installed")
        if then and list(then) != [text]:
            text += f" (heads trained with {', '.join(then)})"
        rows.append((package, text))
    rows.append(("machine of this report", _machine_text(machine())))
    schema = {"What": pl.String, "Which": pl.String}
    return Table("made-with", "The stack, the versions and the machine.", frame_of(rows, schema))


def _trained_on(head: Head) -> str | None:
    where = head.about.get("machine")
    return None if where is None else _machine_text(where)


def _machine_text(found: Mapping[str, Any]) -> str:
    parts = [
        found.get("gpu"),
        found.get("cpu"),
        f"{found['cores']} cores" if found.get("cores") else None,
        f"{found['memory_gb']:g} GB" if found.get("memory_gb") else None,
        f"device {found['device']}" if found.get("device") else None,
        found.get("platform"),
    ]
    return ", ".join(filter(None, parts))
