"""`ser schema`: a JSON Schema of pipeline.yaml."""

from pathlib import Path

import typer

from ser.commands.help import command
from ser.commands.output import print_json

app = typer.Typer()


@command(
    app,
    "ser schema > pipeline.schema.json\nser schema --plugin my_head > pipeline.schema.json",
    section="Start",
)
def schema(*, plugins: list[str] | None = None) -> None:
    """Print a JSON Schema of pipeline.yaml, by which editors check it.

    Write it to a file, and name that file in a comment at the top of pipeline.yaml:
    `# yaml-language-server: $schema=pipeline.schema.json`.

    Args:
        plugins (--plugin MODULE): Python module whose parts are included (repeatable); none by
            default.
    """
    from ser.pipeline.plugins import import_plugin
    from ser.pipeline.schema import pipeline_schema

    for plugin in plugins or ():
        import_plugin(plugin, Path())
    print_json(pipeline_schema())
