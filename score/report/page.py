"""The report as one HTML file: style, script, plotly and data are in it, so it needs no network.

Figures are plotly's JSON, drawn by a small script with the template of the page's theme, again when
the theme or the room for them changes, and light on paper. All user-given text is escaped: by
jinja2 in HTML, `<` in scripts.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ser.score.report.figures import Figure, templates
from ser.score.report.section import Section

if TYPE_CHECKING:
    import plotly.graph_objects as go

SOURCE = Path(__file__).with_name("report.html.j2")


def render_page(title: str, sections: Sequence[Section]) -> str:
    """Return the whole page."""
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup
    from plotly.offline import get_plotlyjs

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    drawn = [figure for section in sections for figure in section.figures]
    data = {
        "templates": {theme: t.to_plotly_json() for theme, t in templates().items()},
        "figures": {figure.name: _figure(figure) for figure in drawn},
    }
    return environment.from_string(SOURCE.read_text(encoding="utf-8")).render(
        title=title,
        sections=sections,
        data=Markup(json.dumps(data).replace("<", "\\u003c")),
        plotly=Markup(get_plotlyjs()) if drawn else "",
    )


def _figure(figure: Figure) -> dict[str, object]:
    """Return what the script needs to draw a figure."""
    return {
        "plot": _plot(figure.plot),
        "narrow": None if figure.narrow is None else _plot(figure.narrow),
        "width": figure.width,
        "height": figure.height,
        "narrow_height": figure.narrow_height,
    }


def _plot(plot: "go.Figure") -> dict[str, object]:
    values: dict[str, Any] = json.loads(str(plot.to_json()))
    values["layout"].pop("template", None)  # plotly's own default theme, which ours replaces
    return values
