"""`ser` and `python` without the seconds that a new process imports for.

A server imports the heavy libraries once. The `ser` and the `python` that `folder()` has ask it to
fork; the child takes the arguments, folder, environment, cores and streams of the command and is a
process of its own: it can be killed, and it ends when the command that asked for it is killed.
Commands with variables that libraries read when they are imported are not for it.
"""

import atexit
import contextlib
import functools
import itertools
import json
import os
import runpy
import select
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
    "ser.commands.main",
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
call = [sys.argv, os.getcwd(), dict(os.environ), list(os.sched_getaffinity(0))]
socket.send_fds(server, [b"."], [0, 1, 2])
with server.makefile("rw") as stream:
    print(json.dumps(call), file=stream, flush=True)
    child = int(stream.readline())
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, frame: os.kill(child, number))
    code = int(stream.readline())
if code < 0:
    if code != -signal.SIGKILL:
        signal.signal(-code, signal.SIG_DFL)
    os.kill(os.getpid(), -code)
sys.exit(code)
"""


@functools.cache
def folder():
    """Start the server; return the folder with the `ser` and the `python` that ask it."""
    place = Path(tempfile.mkdtemp(prefix="ser-warm-"))
    address = str(place / "socket")
    for name in ("ser", "python"):
        (place / name).write_text(CLIENT.format(python=sys.executable, address=address))
        (place / name).chmod(0o755)
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
    from ser.__main__ import main

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
    """Run one command in a child; send its process id and its exit code, negative for a signal."""
    _, streams, *_ = socket.recv_fds(connection, 1, 3)
    with connection.makefile("rw") as stream:
        call = json.loads(stream.readline())
        child = os.fork()
        if child == 0:
            command(main, streams, *call)
        for number in streams:
            os.close(number)
        print(child, file=stream, flush=True)
        ended = os.pidfd_open(child)
        if ended not in select.select([ended, connection], [], [])[0]:
            os.kill(child, signal.SIGKILL)  # the command itself was killed
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        with contextlib.suppress(BrokenPipeError):
            print(code, file=stream, flush=True)
    os._exit(0)


def command(main, streams, words, place, environment, cores):  # noqa: PLR0917
    """Become the process of the command."""
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    os.chdir(place)
    os.environ.clear()
    os.environ.update(environment)
    os.sched_setaffinity(0, cores)
    sys.argv = words
    sys.executable = str(Path(words[0]).with_name("python"))  # what it starts is warm too
    paths = environment.get("PYTHONPATH", "").split(os.pathsep)
    sys.path[:0] = [path for path in paths if path]
    code = 1
    try:
        main() if words[0].endswith("ser") else python()
        code = 0
    except SystemExit as end:
        code = end.code or 0
    except KeyboardInterrupt:
        traceback.print_exc()
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)  # as Python ends
    except BaseException:
        traceback.print_exc()
    finally:
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def python():
    """Run `python [-P] [-u] -c code …` or `… -m module …`."""
    words = sys.argv[1:]
    flags = list(itertools.takewhile(("-P", "-u").__contains__, words))
    how, what, *sys.argv[1:] = words[len(flags) :]
    sys.argv[0] = how
    if "-P" not in flags:
        sys.path.insert(0, "")
    if how == "-m":
        runpy.run_module(what, run_name="__main__", alter_sys=True)
    else:
        exec(compile(what, "<string>", "exec"), {"__name__": "__main__"})


if __name__ == "__main__":
    serve(sys.argv[1])
