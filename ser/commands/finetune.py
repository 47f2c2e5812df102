"""`ser finetune`: train a pretrained model and a head together."""

from typing import Annotated

import typer

from ser.commands.help import Resuming, command
from ser.commands.logs import log
from ser.commands.options import (
    PIPELINE,
    Force,
    Overrides,
    PipelineFile,
    TrainingDevice,
    load_pipeline,
)

app = typer.Typer()


@command(
    app,
    "ser finetune\nser finetune wavlm-baseline --processes 4 --device cuda",
    section="Heads",
    cls=Resuming,
)
def finetune(
    names: list[str] | None = None,
    *,
    processes: Annotated[int, typer.Option(min=1)] = 1,
    force: Force = False,
    device: TrainingDevice = "auto",
    path: PipelineFile = PIPELINE,
    overrides: Overrides = None,
) -> int:
    """Fine-tune foundation models together with a head.

    Models that are up to date are skipped.

    Args:
        names: Models under `finetune:` to train; by default all of them.
        processes (N): Processes on this machine, each with a GPU of its own.
    """
    from ser.commands.live import LiveHeads
    from ser.corpus.errors import UserError
    from ser.finetune.processes import is_one_of_several, start
    from ser.stages.finetune import extract_words, fine_tunings, require_finetune

    pipeline = load_pipeline(path, overrides)
    chosen = list(dict.fromkeys(names or ())) or list(pipeline.finetune)
    require_finetune(pipeline, chosen)
    if not chosen:
        raise UserError(f"{pipeline.source}: there are no models under `finetune:`; add one.")
    if processes > 1 and not is_one_of_several():
        words = [*chosen, "--device", device, "--pipeline", str(path)]
        words += ["--force"] if force else []
        words += [word for override in overrides or () for word in ("--set", override)]
        for line in extract_words(pipeline, chosen, device):
            log.info("%s", line)
        return start(processes, ["finetune", *words])
    with LiveHeads() as live:
        lines = fine_tunings(pipeline, chosen, device, force=force, callbacks=live.callbacks)
        for line in lines:
            live.log(line)
    return 0
