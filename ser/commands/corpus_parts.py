"""`ser corpus split` and `ser corpus join`: manifests divided and put together."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from ser.commands.help import command
from ser.commands.logs import log
from ser.commands.options import OUTPUT_MANIFEST, Json
from ser.commands.output import print_frame, print_json
from ser.corpus.errors import UserError, one_line

if TYPE_CHECKING:
    from ser.corpus.manifest import Manifest

app = typer.Typer()


@command(
    app,
    "ser corpus split data/mine.parquet --test 0.2 --dev 0.2\n"
    "ser corpus split data/iemocap.parquet --folds 5 --by session --out f.parquet",
)
def split(
    manifest: Path,
    *,
    by: str = "speaker",
    test: float = 0.2,
    dev: float = 0.2,
    folds: int | None = None,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    out: Annotated[Path | None, OUTPUT_MANIFEST] = None,
    as_json: Json = False,
) -> None:
    """Divide a manifest into train, dev and test, or into folds.

    No speaker is in two parts, and classes are spread as evenly as that allows. The same seed gives
    the same parts.

    Args:
        manifest: Manifest to divide.
        by (COLUMN): Column whose values stay together, as speaker or session; speakers always do.
        test (SHARE): Share of the utterances to test on.
        dev (SHARE): Share of the utterances to choose models by.
        folds (K): Write K equal folds into `fold` in place of splits; none by default.
        seed (N): Seed of the division.
        out (FILE): Manifest to write: .parquet or .csv; by default MANIFEST is replaced.
    """
    from dataclasses import asdict

    from ser.corpus.manifest import Manifest
    from ser.corpus.split import fold_manifest, part_table, parts_of, split_manifest

    read, target = Manifest.read(manifest), out or manifest
    column = "split" if folds is None else "fold"
    if folds is None:
        divided = split_manifest(read, by, test, dev, seed)
    else:
        divided = fold_manifest(read, folds, by, seed)
    if target.resolve() != manifest.resolve():
        divided.audio = read.audio_folder()
    divided.write(target)
    _warn_of_audio(divided, target)
    parts = parts_of(divided, column)
    replaced = {part.name: part.clips for part in parts_of(read, column) if part.name}
    if as_json:
        described = {part.name: asdict(part) for part in parts}
        print_json({"manifest": str(target), "replaced": replaced, "parts": described})
        return
    for note in divided.notes:
        typer.echo(one_line(note))
    counts = ", ".join(f"{name}: {clips}" for name, clips in replaced.items() if clips)
    typer.echo(f"{target}: {column} written" + (f", replacing {counts}" if counts else ""))
    print_frame(part_table(parts))


@command(
    app,
    "ser corpus join de.parquet it.parquet --out both.parquet --map bored=neutral\n"
    "ser corpus join a.csv it=b.csv --out j.csv --classes angry,sad --others drop",
)
def join(
    manifests: list[str],
    *,
    out: Annotated[Path, OUTPUT_MANIFEST],
    mapping: list[str] | None = None,
    classes: str | None = None,
    others: Literal["error", "drop", "keep-unlabelled"] = "error",
    splits: Literal["keep", "clear"] = "keep",
    votes: Literal["counts", "shares"] = "counts",
    rescale: list[str] | None = None,
    audio: list[str] | None = None,
    as_json: Json = False,
) -> None:
    """Join corpora into one manifest.

    Ids, speakers and sessions get the name of their corpus in front, as emovo/f1.

    Args:
        manifests ([NAME=]MANIFEST): Manifests to join; NAME is the corpus, by default as the
            manifest has it.
        out (FILE): Manifest to write: .parquet or .csv.
        mapping (--map [NAME:]EMOTION=CLASS): Count an emotion as a class (repeatable); none by
            default.
        classes (A,B,C): Classes; by default all emotions after --map.
        others: What to do with an utterance whose emotion is not a class.
        splits: Keep splits and folds, or clear them.
        votes: Keep counts of raters, or divide them by their sum.
        rescale (NAME=LOW:HIGH): Map the attributes of a corpus from this range to 1-7 (repeatable);
            none by default.
        audio (NAME=FOLDER): Audio folder of a corpus (repeatable); by default the one its manifest
            names.
    """
    from ser.corpus.join import class_by_corpus, join_manifests
    from ser.corpus.labels import summary
    from ser.corpus.manifest import Manifest, missing_audio

    given = [("", text) if Path(text).is_file() else _named(text) for text in manifests]
    names = [name or None for name, _ in given]
    if any(out.resolve() == Path(path).resolve() for _, path in given):
        raise UserError(f"--out {out}: it is one of the manifests to join; give another file.")
    parts = [Manifest.read(path) for _, path in given]
    _set_audio(parts, names, _pairs("--audio", audio))
    joined = join_manifests(
        parts,
        names,
        mapping=_pairs("--map", mapping),
        classes=None if classes is None else [name.strip() for name in classes.split(",")],
        others=others,
        splits=splits,
        votes=votes,
        rescale={name: _range(text) for name, text in _pairs("--rescale", rescale).items()},
        absolute=out.suffix == ".csv",
    )
    joined.write(out)
    if missing := missing_audio(joined):
        log.warning(
            "warning: audio missing: %s; put it there, or give its folder with --audio", missing
        )
    table = class_by_corpus(joined)
    if as_json:
        print_json({"manifest": str(out), "notes": joined.notes, "classes": table.to_dicts()})
        return
    for note in joined.notes:
        typer.echo(one_line(note))
    typer.echo(f"{out}: {summary(joined)}")
    print_frame(table)


def _named(text: str) -> tuple[str, str]:
    name, equals, path = text.partition("=")
    return (name, path) if equals else ("", text)


def _pairs(option: str, texts: Sequence[str] | None) -> dict[str, str]:
    """Split the NAME=VALUE texts of an option at the last equals sign; raises `UserError`."""
    pairs = {}
    for text in texts or ():
        name, equals, value = text.rpartition("=")
        if not (equals and name.strip() and value.strip()):
            raise UserError(f"{option} {text}: give it as NAME=VALUE.")
        pairs[name.strip()] = value.strip()
    return pairs


def _range(text: str) -> tuple[float, float]:
    low, _, high = text.partition(":")
    try:
        return float(low), float(high)
    except ValueError:
        raise UserError(f"--rescale {text}: give the range as LOW:HIGH, as 1:5.") from None


def _set_audio(
    parts: Sequence["Manifest"], names: Sequence[str | None], folders: Mapping[str, str]
) -> None:
    """Set the audio folders that were given by the name of the corpus; raises `UserError`."""
    from ser.corpus.errors import nearest
    from ser.corpus.manifest import corpus_name

    by_name: dict[str, Manifest] = {}
    for part, name in zip(parts, names, strict=True):
        corpora = [name] if name else part.frame["corpus"].drop_nulls().unique().to_list()
        by_name |= dict.fromkeys(corpora or [corpus_name(Path(part.source))], part)
    for name, folder in folders.items():
        if name not in by_name:
            raise UserError(f"--audio: there is no corpus '{name}'; {nearest(name, by_name)}")
        if not Path(folder).is_dir():
            raise UserError(f"--audio: {folder}: there is no such folder.")
        by_name[name].audio = Path(folder)


def _warn_of_audio(manifest: "Manifest", path: Path) -> None:
    """Warn of a CSV outside its audio folder, for a CSV does not record that folder."""
    folder = manifest.audio_folder().resolve()
    if path.suffix == ".csv" and folder != path.parent.resolve():
        log.warning(
            "%s: a CSV does not record the audio folder; set corpus.audio of pipeline.yaml to %s.",
            path,
            folder,
        )
