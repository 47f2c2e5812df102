"""The name of this software on the package index, and its version: defined here and nowhere else.

The command and the import are `ser`; `ser` on the package index is another project.
"""

__version__ = "0.1.0"
DISTRIBUTION = "ser-pipeline"


def install(extra: str) -> str:
    """Return the command that installs an extra, as `pip install 'ser-pipeline[media]'`."""
    return f"pip install '{DISTRIBUTION}[{extra}]'"
