"""What the configuration holds: the keys of the file that are not an account's, and the valid whole."""

import re
from dataclasses import dataclass
from typing import Annotated, Any, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from exporter.files import FileStamps
from exporter.history.config import HistorySettings
from exporter.portals.base import Portal
from exporter.sync.feeds import Pace
from exporter.visit import BacklogSettings

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


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


def _normalize_colour(text: str) -> str:
    return str(Colour.parse(text))


class WebSettings(_Section):
    """How the status page looks."""

    colour: Annotated[
        str,
        AfterValidator(_normalize_colour),
        Field(description="The colour of the meters' faces: red, green and blue, as in c8d42a."),
    ] = DEFAULT_COLOUR


class LedgerSettings(_Section):
    """How long readings are kept."""

    index_days: Annotated[
        int,
        Field(
            ge=0,
            le=36500,
            description="Days that counters' readings are kept as read, at least; then the last of each day. 0: for ever.",
        ),
    ] = 90


class RecordingSettings(_Section):
    """What is recorded for reports of failures."""

    last_failure: Annotated[
        bool,
        Field(description="Keep each account's last failed visit, redacted, for `report --last-failure`."),
    ] = True


class ConfigFile(_Section):
    """The configuration of utility-exporter."""

    accounts: Annotated[tuple[Any, ...], Field(min_length=1, description="The logins, each at one portal.")]
    history: Annotated[HistorySettings, Field(description="The history series.")] = HistorySettings()
    ledger: Annotated[LedgerSettings, Field(description="How long readings are kept.")] = LedgerSettings()
    web: Annotated[WebSettings, Field(description="The status page.")] = WebSettings()
    recording: Annotated[RecordingSettings, Field(description="Recordings of failed visits.")] = RecordingSettings()


class Config(_Section):
    """A valid configuration; its accounts are made already."""

    model_config = ConfigDict(arbitrary_types_allowed=True)

    accounts: tuple[Portal, ...]
    history: HistorySettings = HistorySettings()
    ledger: LedgerSettings = LedgerSettings()
    web: WebSettings = WebSettings()
    recording: RecordingSettings = RecordingSettings()
    warnings: tuple[str, ...] = ()
    """Warnings, one a line."""
    stamps: FileStamps = {}
    """The files it was read from, itself and those of secrets, each as it was before: one that changes calls for a reload."""
    pace: Pace | None = None
    """How fast the history is read; None: as each portal allows."""

    @property
    def backlog(self) -> BacklogSettings:
        """How the history is read."""
        return BacklogSettings(self.history.backfill, self.history.from_, self.pace)


def _linearize(part: float) -> float:
    return part / 12.92 if part <= 0.04045 else float(((part + 0.055) / 1.055) ** 2.4)
