"""What a prediction reads of a run's folder before its models: the pipeline, and the best head."""

from pathlib import Path

from ser.corpus.errors import UserError
from ser.heads.record import read_done
from ser.pipeline.file import Pipeline
from ser.predict.runs import which_run


def read_pipeline(run: Path) -> Pipeline:
    """Read a run's pipeline.yaml; raises `UserError` for what is not the folder of a run."""
    path = run / "pipeline.yaml"
    if not path.is_file():
        problem = "it is not a run folder: it holds no pipeline.yaml"
        raise UserError(
            f"{run}: {problem if run.exists() else 'it does not exist'}; {which_run()}."
        )
    pipeline = Pipeline.load(path)
    if not Path(str(pipeline.raw["run"])).is_absolute():
        raise UserError(
            f"{path}: its paths are relative, as an older version wrote them; run `ser stack fit` "
            "once with the pipeline that made this run."
        )
    return pipeline


def best_head(run: Path) -> str:
    """Name the head with the best dev score: macro-F1 where there is any, else its own score.

    Raises `UserError` when no head is trained.
    """
    records = {p.name: read_done(run, p.name) for p in sorted((run / "heads").glob("*"))}
    scores = {
        name: (-1.0 if (f1 := record.dev.get("dev_macro_f1")) is None else f1, record.score or 0.0)
        for name, record in records.items()
        if record is not None
    }
    if not scores:
        raise UserError(
            f"{run}: no head of this run is trained; run `ser run`, or give another folder."
        )
    return max(scores, key=lambda name: scores[name])
