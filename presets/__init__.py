"""One pipeline.yaml per published system, and small ones that run anywhere."""

from importlib.resources import files


def preset(name: str) -> str:
    """Return the text of presets/<name>.yaml."""
    return (files("presets") / f"{name}.yaml").read_text(encoding="utf-8")
