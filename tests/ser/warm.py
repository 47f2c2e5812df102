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
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import traceback
from importlib import import_module
from pathlib import Path
from uuid import uuid4

from filelock import FileLock

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
    """Start the test run's server; return the folder with the `ser` and `python` that ask it."""
    run = os.environ.get("PYTEST_XDIST_TESTRUNUID")  # its workers are children of the test run
    owner = os.getppid() if run else os.getpid()
    place = Path(tempfile.gettempdir(), f"ser-warm-{run or uuid4().hex}")
    place.mkdir(exist_ok=True)
    address = place / "socket"
    with FileLock(place / "lock"):
        if not address.exists():
            for name in ("ser", "python"):
                (place / name).write_text(
                    CLIENT.format(python=sys.executable, address=str(address))
                )
                (place / name).chmod(0o755)
            command = [sys.executable, "-P", __file__, str(address), str(owner)]
            server = subprocess.Popen(command, stdout=subprocess.PIPE, cwd=place)
            assert server.stdout
            server.stdout.readline()  # it listens
    return place


def serve(address, owner):
    """Fork for every call, until the test run ends."""
    ended = os.pidfd_open(owner)
    os.environ.update(TRANSFORMERS_VERBOSITY="error", HF_HUB_DISABLE_PROGRESS_BARS="1")  # as `ser`
    for name in LIBRARIES:
        import_module(name)
    from ser.__main__ import main

    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # no zombies
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(address)
        listener.listen()
        print("listening", flush=True)  # noqa: T201
        while ended not in select.select([ended, listener], [], [])[0]:
            connection, _ = listener.accept()
            if os.fork() == 0:
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                answer(connection, main)
            connection.close()
    shutil.rmtree(Path(address).parent)


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
    tempfile.tempdir = None  # as its variables say
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
        code = end.code if isinstance(end.code, int) else bool(end.code)  # a text is a failure
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
    serve(sys.argv[1], int(sys.argv[2]))
