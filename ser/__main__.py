"""`python -m ser`, which launchers of several processes call."""

from ser.cli import main

if __name__ == "__main__":
    main()
