"""How the status page looks: its templates, its style and its icon."""

import hashlib

from jinja2 import Environment, PackageLoader, StrictUndefined

from exporter.colour import Colour
from exporter.status.words import age, count, instant


class Dress:
    """The page's template, and style and icon in the colour of the meters' faces."""

    def __init__(self, face: Colour) -> None:
        templates, dark = _environment(), face.darker(0.28)
        colours = {"face": face, "ink": face.ink(), "dark_face": dark, "dark_ink": dark.ink()}
        self.page = templates.get_template("page.html")
        self.style, self.icon = (templates.get_template(name).render(colours).encode() for name in ("style.css", "icon.svg"))
        self.styled = hashlib.sha256(self.style).hexdigest()[:12]
        """Changes with the style, and is in its address."""


def _environment() -> Environment:
    made = Environment(
        loader=PackageLoader("exporter.status"), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    made.filters |= {"count": count}
    made.globals |= {"age": age, "instant": instant}
    return made
