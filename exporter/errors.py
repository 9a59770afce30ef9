"""The tree of what can go wrong, and what follows from each."""

from datetime import datetime, timedelta


class ExporterError(Exception):
    """Anything this program says itself; the message is fit to be read by its user and holds no secret."""


class ConfigError(ExporterError):
    """The configuration cannot be used; the message says where in the file, one fault a line."""


class LedgerError(ExporterError):
    """The ledger cannot be read or written: a full disk, a read-only folder, a newer schema."""

    reason = "ledger"


class RequestError(ExporterError):
    """A request to us that cannot be answered as it is; the message is for whoever asked."""


class PortalError(ExporterError):
    """A visit failed; `reason` is the label of `utility_visit_failures_total`."""

    reason = "response"


class UnreachableError(PortalError):
    """Network, timeout, 5xx: come back sooner, backing off."""

    reason = "unreachable"


class RateLimitError(PortalError):
    """The portal (or our own call budget) asks us to wait; `wait` is how long, when it said so."""

    reason = "rate_limit"

    def __init__(self, message: str, retry_after: timedelta | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class LoginError(PortalError):
    """The portal refused the login: no further try until the configuration changes or a day has passed."""

    reason = "login"


class ResponseError(PortalError):
    """We do not understand the answer: the portal changed."""

    reason = "response"


class ReadingError(ResponseError, ValueError):
    """A reading that no meter can have: not a number, beyond all numbers, or not of our time."""


class NoDataError(PortalError):
    """A good answer that holds nothing yet: normal in the past, or of a part of a visit; a whole visit of it has failed."""


class HistoryExhaustedError(NoDataError):
    """The portal has nothing older of this; an import stops asking further back."""


class UnavailableError(NoDataError):
    """A good answer: this is not given, or not any more, and may be later; an import leaves it for this time."""


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
