"""The report as one HTML file: style, script, plotly and data are in it, so it needs no network.

Figures are plotly's JSON, drawn by a small script with the template of the page's theme, again when
the theme changes, and light on paper. All text of the user is escaped: by jinja2 in HTML, `<` in
scripts.
"""

import json
from collections.abc import Sequence
from pathlib import Path

from score.report.figures import templates
from score.report.sections import Section

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
        "templates": {theme: of.to_plotly_json() for theme, of in templates().items()},
        "figures": {figure.name: json.loads(figure.plot.to_json()) for figure in drawn},
    }
    for figure in data["figures"].values():  # plotly's own default theme, which ours replaces
        figure["layout"].pop("template", None)
    return environment.from_string(SOURCE.read_text(encoding="utf-8")).render(
        title=title,
        sections=sections,
        data=Markup(json.dumps(data).replace("<", "\\u003c")),
        plotly=Markup(get_plotlyjs()) if drawn else "",
    )
