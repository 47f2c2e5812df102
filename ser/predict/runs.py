"""The runs and bundles in a folder, which the error for what is not a run names."""

import json
from collections.abc import Iterator
from pathlib import Path
from zipfile import BadZipFile, ZipFile

NAMED = 5  # at most
RECORD = 1 << 24  # bytes of a head.json that are read


def which_run(here: Path | None = None) -> str:
    """Return the end of a sentence: the runs and bundles below `here`, or how to get one."""
    runs = trained_runs(here or Path())
    if not runs:
        return "none was found here: train one with `ser run`, or get a bundle that `ser pack` made"
    more = f" and {len(runs) - NAMED} more" if len(runs) > NAMED else ""
    return f"found here: {', '.join(runs[:NAMED])}{more}"


def trained_runs(here: Path) -> list[str]:
    """Name the trained runs and the bundles in a folder and in its `runs/`, synthetic ones last.

    A run with a head that was trained on synthetic speech is marked as such, and so is the demo.
    """
    marks = [*here.glob("runs/*/pipeline.yaml"), *here.glob("runs/*/*/pipeline.yaml")]
    folders = [mark.parent for mark in sorted(marks) if _heads(mark.parent)]
    bundles = [*sorted(here.glob("*.ser")), *sorted(here.glob("runs/*.ser"))]
    real, synthetic = [], []
    for path in [*folders, *(bundle for bundle in bundles if bundle.is_file())]:
        if path.stem == "demo" or any(_is_synthetic(text) for text in _records(path)):
            synthetic.append(f"{path} (trained on synthetic speech)")
        else:
            real.append(str(path))
    return real + synthetic


def _heads(run: Path) -> list[Path]:
    return sorted(run.glob("heads/*/head.json"))


def _records(path: Path) -> Iterator[bytes]:
    """Yield the head.json files of a run or a bundle; none where they cannot be read."""
    try:
        if path.is_dir():
            yield from (record.read_bytes()[:RECORD] for record in _heads(path))
            return
        with ZipFile(path) as bundle:
            for info in bundle.infolist():
                if info.filename.endswith("/head.json"):
                    with bundle.open(info) as member:
                        yield member.read(RECORD)
    except (OSError, BadZipFile, NotImplementedError, RuntimeError, ValueError):
        return


def _is_synthetic(record: bytes) -> bool:
    try:
        return bool(json.loads(record).get("synthetic"))
    except (ValueError, AttributeError, RecursionError):
        return False
