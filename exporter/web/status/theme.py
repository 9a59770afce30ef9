"""The theme of the status page: its templates, stylesheet and icon."""

import hashlib

from jinja2 import Environment, PackageLoader, StrictUndefined

from exporter.config.colour import Colour
from exporter.web.status.formatting import format_age, format_count


class Theme:
    """The page's template, and style and icon in the colour of the meters."""

    def __init__(self, colour: Colour) -> None:
        templates, dark = _make_environment(), colour.darken(0.28)
        colours = {"meter": colour, "meter_text": colour.text_colour(), "dark_meter": dark, "dark_meter_text": dark.text_colour()}
        self.page_template = templates.get_template("page.html")
        self.usage_point_template = templates.get_template("usage_point.html")
        self.stylesheet, self.icon = (templates.get_template(name).render(colours).encode() for name in ("style.css", "icon.svg"))
        self.stylesheet_version = hashlib.sha256(self.stylesheet).hexdigest()[:12]
        """Changes with the style, and stands in its URL."""


def _make_environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("exporter.web.status"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"format_count": format_count}
    environment.globals |= {"format_age": format_age}
    return environment
