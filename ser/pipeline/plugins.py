"""The `plugins` section of pipeline.yaml: a user's modules, imported so that they register."""

import re
import sys
import traceback
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from ser.corpus.bounded_yaml import shorten
from ser.corpus.errors import UserError
from ser.pipeline.document import Document


def import_plugins(document: Document, base: Path) -> tuple[str, ...]:
    """Import the modules under `plugins:`; return each's folder and name, as one path."""
    names = document.data.get("plugins")
    if names is not None and not isinstance(names, list):
        raise document.error(("plugins",), "it must be a list of modules, as [my_head].")
    plugins = []
    for i, name in enumerate(names or ()):
        plugin = base / document.path(("plugins", i), name)
        if not re.fullmatch(r"[^\W\d]\w*(\.[^\W\d]\w*)*", plugin.name):
            raise document.error(
                ("plugins", i), "it must be a Python module: give my_head for my_head.py."
            )
        with document.at(("plugins", i)):
            import_plugin(plugin.name, plugin.parent)
        plugins.append(str(plugin))
    return tuple(plugins)


def import_plugin(name: str, folder: Path) -> None:
    """Import a user's module, also from `folder`; it registers what it defines.

    Its code runs, so the first import is announced on stderr. Raises `UserError` when it fails.
    """
    folder = folder.resolve()
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
    started_by = getattr(sys.modules["__main__"], "__spec__", None)
    # a worker's parent has announced it
    worker = started_by is not None and started_by.name == "ser.engines.workers"
    if name not in sys.modules and not worker and (origin := _origin(name)) is not None:
        sys.stderr.write(f"ser: importing plugin {name} from {origin} (runs its code)\n")
    try:
        import_module(name)
    except ImportError as error:
        raise UserError(
            f"plugin '{name}' cannot be imported ({error}); put {name}.py into {folder}, or "
            "install it."
        ) from error
    except (Exception, SystemExit) as error:
        raise UserError(
            f"plugin '{name}' raises an error when imported ({_reason(error, folder)}); correct it."
        ) from error


def _origin(name: str) -> Path | None:
    """Return the folder that a module will be imported from, None where there is no such module."""
    try:
        spec = find_spec(name.partition(".")[0])
    except ValueError:  # a module without a spec, as __main__
        spec = None
    if spec is None:
        return None
    places = list(spec.submodule_search_locations or ()) or [spec.origin or name]
    return Path(places[0]).parent


def _reason(error: BaseException, folder: Path) -> str:
    """Return the error of a plugin, and the last of the plugin's own lines in its traceback."""
    frames = traceback.extract_tb(error.__traceback__)
    lines = [
        f"{f.filename}:{f.lineno}: " for f in frames if Path(f.filename).is_relative_to(folder)
    ]
    text = shorten(error, 200).rstrip(".")
    if not isinstance(error, UserError):
        text = f"{type(error).__name__}: {text}" if text else type(error).__name__
    return f"{lines[-1] if lines else ''}{text}"
