"""`ser serve`: an HTTP API and a page for a trained run."""

from typing import Annotated

import typer

from ser.commands.help import command
from ser.commands.logs import result
from ser.commands.options import POSITIVE, Device, MinConfidence, OneHead, PublishedModel, RunFolder
from ser.corpus.errors import UserError

app = typer.Typer()


@command(
    app,
    "ser serve\nser serve --run runs/mine\n"
    "SER_TOKEN=… ser serve --run m.ser --host 0.0.0.0 --allow-host ser.example.org",
    section="Predict",
)
def serve(
    *,
    run: RunFolder = None,
    head: OneHead = None,
    model: PublishedModel = None,
    min_confidence: MinConfidence = None,
    host: str = "127.0.0.1",
    allowed_hosts: list[str] | None = None,
    port: Annotated[int, typer.Option(min=0, max=65535)] = 7860,
    open_: bool = False,
    token: Annotated[str, typer.Option(envvar="SER_TOKEN")] = "",
    max_mb: Annotated[float, POSITIVE] = 50,
    max_seconds: Annotated[float, POSITIVE] = 600,
    timeout: Annotated[float, POSITIVE] = 60,
    queue: Annotated[int, typer.Option(min=0)] = 16,
    streams: Annotated[int, typer.Option(min=0)] = 4,
    max_stream: Annotated[float, POSITIVE] = 3600,
    api_only: bool = False,
    device: Device = "auto",
) -> None:
    """Serve a trained run: a page and an HTTP API.

    Clients send clips to POST /predict and live audio to the websocket /live; /docs describes the
    API.

    Args:
        host (NAME): Name or address to listen on.
        allowed_hosts (--allow-host NAME): Further name that requests may be addressed to, as behind
            a proxy (repeatable); by default none.
        port (N): Port to listen on; 0 takes a free one.
        open_ (--open): Serve a network without a token.
        token (TEXT): Token that clients must send; by default none, which needs --open or a local
            --host.
        max_mb (MB): Largest request body, in megabytes.
        max_seconds (SECONDS): Longest audio, in seconds.
        timeout (SECONDS): Longest wait for an answer, in seconds, waiting included.
        queue (N): Number of clips that may wait.
        streams (N): Number of live streams at one time.
        max_stream (SECONDS): Longest live stream, in seconds of audio.
        api_only: Serve the API without a page.
    """
    import ser
    from ser.serve.hosts import allowed_host, is_loopback
    from ser.serve.limits import Limits
    from ser.serve.run import serve

    if token and not (token.isascii() and token.isprintable() and " " not in token):
        raise UserError("--token: use letters, digits and signs of ASCII without spaces.")
    if not is_loopback(host) and not token and not open_:
        raise UserError(
            f"--host {host}: anyone who reaches it could use this server; give a `--token` or set "
            "SER_TOKEN, or allow everyone by `--open`."
        )
    names = [allowed_host(name) for name in allowed_hosts or ()]
    limits = Limits(max_mb, max_seconds, timeout, queue, streams=streams, stream_seconds=max_stream)
    predictor = ser.load(run, device, head, min_confidence, model=model)
    page = None if api_only else predictor.source.resolve().stem
    serve(predictor, limits, host, port, allowed_hosts=names, token=token, page=page, say=result)
