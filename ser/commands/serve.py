"""`ser serve`: an HTTP API and a page for a trained run."""

from pathlib import Path

import click

from ser.commands.options import device_option


@click.command()
@click.option(
    "--run", type=Path, default=Path("runs/demo"), show_default=True, help="A trained run."
)
@click.option("--head", help="Ask this head alone; by default the stack.")
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", type=int, default=7860, show_default=True, help="0 takes a free one.")
@click.option("--token", envvar="SER_TOKEN", show_envvar=True, default="", help="What to ask for.")
@click.option("--max-mb", type=click.FloatRange(0, min_open=True), default=50, show_default=True)
@click.option(
    "--max-seconds",
    type=click.FloatRange(0, min_open=True),
    default=600,
    show_default=True,
    help="Of audio.",
)
@click.option(
    "--timeout",
    type=click.FloatRange(0, min_open=True),
    default=60,
    show_default=True,
    help="Seconds until an answer, waiting included.",
)
@click.option(
    "--queue", type=click.IntRange(0), default=16, show_default=True, help="Clips that may wait."
)
@click.option("--api-only", is_flag=True, help="No page.")
@device_option
def serve(
    *,
    run: Path,
    head: str | None,
    host: str,
    port: int,
    token: str,
    max_mb: float,
    max_seconds: float,
    timeout: float,
    queue: int,
    api_only: bool,
    device: str,
) -> None:
    """Serve a page to try RUN on, and an HTTP API (POST /predict; /docs describes it)."""
    import ser
    from ser.serve.limits import Limits
    from ser.serve.run import is_loopback, serve

    if not is_loopback(host) and not token:
        click.echo(
            f"ser: anyone who reaches {host} may use this server; give a `--token`, or set "
            "SER_TOKEN.",
            err=True,
        )
    page = None if api_only else run.resolve().stem
    limits = Limits(max_mb, max_seconds, timeout, queue)
    predictor = ser.load(run, device, head)
    serve(predictor, limits, host, port, token=token, page=page, say=click.echo)
