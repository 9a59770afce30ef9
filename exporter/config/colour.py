"""A colour of the status page, a darker shade of it, and a text colour that is readable on it."""

import re
from dataclasses import dataclass
from typing import Self

DEFAULT_COLOUR = "c8d42a"
"""A yellow-green, as on common electricity meters."""


@dataclass(frozen=True, slots=True)
class Colour:
    """Red, green and blue, 0 to 255."""

    red: int
    green: int
    blue: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the colour of `c8d42a`, `#c8d42a` or `cd2`; raise ValueError that shows the form."""
        digits = text.removeprefix("#")
        if not re.fullmatch(r"([0-9a-fA-F]{3}){1,2}", digits):
            raise ValueError("must be six hex digits, like c8d42a (a # before them needs quotes)")
        if len(digits) == 3:
            digits = "".join(digit * 2 for digit in digits)
        return cls(*bytes.fromhex(digits))

    def __str__(self) -> str:
        return f"#{self.red:02x}{self.green:02x}{self.blue:02x}"

    def darken(self, fraction: float) -> "Colour":
        """Return the colour mixed with black."""
        return Colour(*(round(part * (1 - fraction)) for part in (self.red, self.green, self.blue)))

    def text_colour(self) -> "Colour":
        """Return black or white, whichever is more readable on this colour."""
        black, white = Colour(0, 0, 0), Colour(255, 255, 255)
        return black if self.contrast(black) >= self.contrast(white) else white

    def contrast(self, other: "Colour") -> float:
        """Return the contrast ratio of WCAG 2, 1 to 21."""
        lighter, darker = sorted((self._luminance(), other._luminance()), reverse=True)
        return (lighter + 0.05) / (darker + 0.05)

    def _luminance(self) -> float:
        red, green, blue = (_linearize(part / 255) for part in (self.red, self.green, self.blue))
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def _linearize(part: float) -> float:
    return part / 12.92 if part <= 0.04045 else float(((part + 0.055) / 1.055) ** 2.4)
