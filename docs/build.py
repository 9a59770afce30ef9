"""Write the generated parts of the pages: `python -m docs.build`.

A generated part stands between `<!-- made: NAME -->` and `<!-- end -->`; all else in a page is written by hand.
"""

import re
from collections.abc import Callable, Mapping
from pathlib import Path

from docs import config_keys, excerpts, reference

FOLDER = Path(__file__).parent
GENERATED_PAGES: Mapping[str, Callable[[], Mapping[str, str]]] = {
    "configuration.md": config_keys.build_key_tables,
    "command-line.md": reference.build_command_tables,
    "metrics.md": reference.build_metric_tables,
    "web-config.md": config_keys.build_web_config_tables,
    "add-a-portal.md": excerpts.build_excerpts,
}
"""The generated parts of each page: their names and text."""
_PART = re.compile(r"(?P<begin><!-- made: (?P<name>.+?) -->\n).*?(?P<end><!-- end -->)", re.DOTALL)


def replace_parts(page: str, parts: Mapping[str, str]) -> str:
    """Replace the parts of a page; raise ValueError if a page and its parts do not match."""
    names = [match["name"] for match in _PART.finditer(page)]
    if sorted(names) != sorted(parts):
        raise ValueError(f"the page has the parts {sorted(names)}, expected {sorted(parts)}")
    return _PART.sub(lambda match: f"{match['begin']}\n{parts[match['name']].strip()}\n\n{match['end']}", page)


def write_pages() -> None:
    """Write every page that has generated parts."""
    for name, parts in GENERATED_PAGES.items():
        page = FOLDER / name
        page.write_text(replace_parts(page.read_text(), parts()))


if __name__ == "__main__":
    write_pages()
