"""Where the command line starts: `ser`, and `python -m ser`, which launchers of processes call.

Nothing is imported before Ctrl-C is caught: the imports are most of the first 0.2 s.
"""

import gc
import sys

COLLECT_AFTER = 10_000  # new objects, not 700: imports make many, and nearly all of them stay


def main() -> None:
    """Run the command line; Ctrl-C is one line and exit code 130, however early it comes.

    SIGTERM is the same with exit code 143, once this package can be imported.
    """
    gc.set_threshold(COLLECT_AFTER)
    try:
        from ser.corpus.termination import catch_sigterm

        catch_sigterm()
        from ser.commands.main import main as run_command

        run_command()
    except KeyboardInterrupt:
        sys.stderr.write("ser: interrupted.\n")
        sys.exit(130)


if __name__ == "__main__":
    main()
