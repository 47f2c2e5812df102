"""`ser finetune`: train a pretrained model and a head together."""

from pathlib import Path

import click

from ser.commands.options import device_option, load_pipeline, pipeline_option, set_option


@click.command()
@click.argument("names", nargs=-1)
@click.option("--processes", default=1, show_default=True, help="Of this machine; a GPU each.")
@click.option("--force", is_flag=True, help="Train again what is current.")
@device_option
@pipeline_option
@set_option
def finetune(
    names: tuple[str, ...],
    *,
    processes: int,
    force: bool,
    device: str,
    path: Path,
    overrides: tuple[str, ...],
) -> int:
    """Fine-tune the models NAMES of the pipeline, or all; what is current is skipped."""
    from corpus.errors import UserError
    from ser.commands.live import LiveHeads
    from ser.finetune.processes import is_one_of_several, start
    from ser.finetune.stage import extract_words, fine_tunings, require_finetune

    pipeline = load_pipeline(path, overrides)
    chosen = list(dict.fromkeys(names)) or list(pipeline.finetune)
    require_finetune(pipeline, chosen)
    if not chosen:
        raise UserError(f"{pipeline.source}: nothing is under finetune; add a model to it.")
    if processes > 1 and not is_one_of_several():
        words = [*chosen, "--device", device, "--pipeline", str(path)]
        words += ["--force"] if force else []
        words += [word for override in overrides for word in ("--set", override)]
        for line in extract_words(pipeline, chosen, device):
            click.echo(line)
        return start(processes, ["finetune", *words])
    with LiveHeads() as live:
        lines = fine_tunings(pipeline, chosen, device, force=force, after_epoch=live.after_epoch)
        for line in lines:
            live.say(line)
    return 0
