"""Writes the made parts of the pages anew: `python -m docs.build`.

A part stands between `<!-- made: NAME -->` and `<!-- end -->`; all else in a page is written by hand.
"""

import re
from collections.abc import Callable, Mapping
from pathlib import Path

from docs import commands, families, keys, listing, webconfig

FOLDER = Path(__file__).parent
PAGES: Mapping[str, Callable[[], Mapping[str, str]]] = {
    "configuration.md": keys.parts,
    "command-line.md": commands.parts,
    "metrics.md": families.parts,
    "web-config.md": webconfig.parts,
    "add-a-portal.md": listing.parts,
}
"""What is made for each page: the names of its parts, and their text."""
_PART = re.compile(r"(?P<begin><!-- made: (?P<name>.+?) -->\n).*?(?P<end><!-- end -->)", re.DOTALL)


def renewed(page: str, parts: Mapping[str, str]) -> str:
    """Put the parts in their places; raises ValueError where a page and its parts do not match."""
    asked = [match["name"] for match in _PART.finditer(page)]
    if sorted(asked) != sorted(parts):
        raise ValueError(f"the page has the parts {sorted(asked)}, and there are {sorted(parts)}")
    return _PART.sub(lambda match: f"{match['begin']}\n{parts[match['name']].strip()}\n\n{match['end']}", page)


def write() -> None:
    """Write every page that has made parts."""
    for name, parts in PAGES.items():
        page = FOLDER / name
        page.write_text(renewed(page.read_text(), parts()))


if __name__ == "__main__":
    write()
