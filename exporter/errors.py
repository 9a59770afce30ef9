"""Every error, what follows from it, and what a misspelt word may have meant."""

import difflib
from collections.abc import Iterable
from datetime import datetime, timedelta

from exporter.files import FileStamps


class ExporterError(Exception):
    """Any error of this program; its message is for the user and holds no secret."""


class ConfigError(ExporterError):
    """The configuration cannot be used; the message names file and line, one fault a line.

    `stamps` are those of its file and of all files that it names, before they were read: one that changes may cure it.
    """

    def __init__(self, message: str, stamps: FileStamps | None = None) -> None:
        super().__init__(message)
        self.stamps: FileStamps = stamps or {}


class LedgerError(ExporterError):
    """The ledger cannot be read or written: a full disk, a read-only folder, a newer schema."""

    reason = "ledger"


class RequestError(ExporterError):
    """A bad request to our own server; the message is for its client."""


class BusyError(ExporterError):
    """A request to us that cannot be answered now; the same request later may."""


class PortalError(ExporterError):
    """A visit failed; `reason` is the label of `utility_visit_failures_total`."""

    reason = "response"


class UnreachableError(PortalError):
    """Network, timeout, 5xx: retried sooner, with backoff; `status` is that of the response, if one came.

    `was_sent` is whether the body of the request may have reached the portal.
    """

    reason = "unreachable"

    def __init__(self, message: str, status: int | None = None, *, was_sent: bool = True) -> None:
        super().__init__(message)
        self.status, self.was_sent = status, was_sent


class RateLimitError(PortalError):
    """The portal (or our own quota) asks us to wait; `retry_after` is how long, if known."""

    reason = "rate_limit"

    def __init__(self, message: str, retry_after: timedelta | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class LoginError(PortalError):
    """The portal refused the login: no further attempt until the configuration changes or a day has passed."""

    reason = "login"


class ResponseError(PortalError):
    """The response cannot be parsed: the portal has changed."""

    reason = "response"


class ReadingError(ResponseError, ValueError):
    """A reading that no meter can have: not a number, out of range, or not of our time."""


class NoDataError(PortalError):
    """A valid response without data: normal for past days or a part of a visit; a whole visit without data has failed."""


class FeedRefusedError(PortalError):
    """The portal does not give this feed: not switched on, no consent, not subscribed; the other feeds go on.

    `until` is when to ask again (aware); None leaves it to the policy.
    """

    def __init__(self, message: str, until: datetime | None = None) -> None:
        super().__init__(message)
        self.until = until


class TooOldError(PortalError):
    """The first day asked for lies before what the portal gives of this feed; later days may well be given."""


class TooLongError(PortalError):
    """More days were asked for than the portal gives at once."""


def select_main_failure(failures: Iterable[PortalError]) -> PortalError | None:
    """Return the failure that decides what happens next: a refused login, wherever it stands, or else the first."""
    found = list(failures)
    return next((error for error in found if isinstance(error, LoginError)), next(iter(found), None))


def suggest(word: str, known: Iterable[str]) -> str:
    """Return the most similar known word as `; did you mean every?`, or an empty text."""
    meant = find_similar(word, known)
    return f"; did you mean {meant}?" if meant else ""


def find_similar(word: str, known: Iterable[str]) -> str:
    """Return the most similar known word, or an empty text."""
    by_folded = {one.casefold(): one for one in known}
    matches = difflib.get_close_matches(word.casefold(), list(by_folded), n=1, cutoff=0.6)
    return by_folded[matches[0]] if matches else ""
