"""`ser` for the commands of pages, without the seconds that each would import.

A server imports the heavy libraries once. The `ser` that `folder()` has asks it to fork; the child
takes the arguments, folder, environment, cores and streams of the command and runs it as a process
of its own. Commands with variables that libraries read when they are imported are not for it.
"""

import atexit
import functools
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import traceback
from importlib import import_module
from pathlib import Path

LIBRARIES = (
    "ctranslate2",
    "lightgbm",
    "plotly.graph_objects",
    "polars",
    "scipy.signal",
    "sklearn.ensemble",
    "sklearn.linear_model",
    "soundfile",
    "torch",
    "transformers.models.bert.modeling_bert",
    "transformers.models.whisper.modeling_whisper",
    "zarr",
)
CLIENT = """\
#!{python} -IS
import json, os, signal, socket, sys
server = socket.socket(socket.AF_UNIX)
server.connect({address!r})
call = [sys.argv[1:], os.getcwd(), dict(os.environ), list(os.sched_getaffinity(0))]
socket.send_fds(server, [b"."], [0, 1, 2])
with server.makefile("rw") as stream:
    print(json.dumps(call), file=stream, flush=True)
    code = int(stream.readline())
if code < 0:
    os.kill(os.getpid(), -code)
sys.exit(code)
"""


@functools.cache
def folder():
    """Start the server; return the folder with the `ser` that asks it."""
    place = Path(tempfile.mkdtemp(prefix="ser-warm-"))
    address = str(place / "socket")
    (place / "ser").write_text(CLIENT.format(python=sys.executable, address=address))
    (place / "ser").chmod(0o755)
    server = subprocess.Popen(
        [sys.executable, "-P", __file__, address], stdout=subprocess.PIPE, cwd=place
    )
    atexit.register(server.kill)
    server.stdout.readline()  # it listens
    return place


def serve(address):
    """Fork for every call."""
    for name in LIBRARIES:
        import_module(name)
    from ser.commands.main import main

    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # no zombies
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(address)
        listener.listen()
        print("listening", flush=True)  # noqa: T201
        while True:
            connection, _ = listener.accept()
            if os.fork() == 0:
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                answer(connection, main)
            connection.close()


def answer(connection, main):
    """Run one command in a child; send its exit code, negative for a signal."""
    _, streams, *_ = socket.recv_fds(connection, 1, 3)
    with connection.makefile("rw") as stream:
        call = json.loads(stream.readline())
        child = os.fork()
        if child == 0:
            command(main, streams, *call)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), file=stream, flush=True)
    os._exit(0)


def command(main, streams, words, place, environment, cores):  # noqa: PLR0917
    """Become the process of the command."""
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
    os.chdir(place)
    os.environ.clear()
    os.environ.update(environment)
    os.sched_setaffinity(0, cores)
    sys.argv = ["ser", *words]
    code = 1
    try:
        main()
    except SystemExit as end:
        code = end.code or 0
    except BaseException:
        traceback.print_exc()
    finally:
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    serve(sys.argv[1])
