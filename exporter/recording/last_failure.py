"""The last failed visit of each account in `serve`, redacted, in the storage folder: a rare failure can be reported later."""

import hashlib
import logging
import re
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from pydantic import BaseModel

from exporter.errors import PortalError
from exporter.recording.recorder import Recorder
from exporter.recording.recording import build_recording
from exporter.recording.rules import RedactionRules

MAX_HELD_BYTES = 8 << 20
"""Of the responses of a visit that is under way."""
MAX_FILE_BYTES = 2 << 20
PREFIX = "last-failure-"
log = logging.getLogger(__name__)


class FailureRecordings:
    """The files of the accounts' last failures; off until it is switched on."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._enabled = False
        self._written: dict[str, tuple[str, str]] = {}

    def configure(self, enabled: bool) -> None:
        """Switch on or off; off, the files are removed."""
        self._enabled = enabled
        if not enabled:
            self._written.clear()
            with suppress(OSError):
                for file in self._folder.glob(f"{PREFIX}*.json"):
                    file.unlink(missing_ok=True)

    def begin(self, now: datetime) -> Recorder | None:
        """Return what a visit that begins is recorded by; None while switched off."""
        return Recorder(now, MAX_HELD_BYTES) if self._enabled else None

    def write(self, portal: BaseModel, account: str, rules: RedactionRules, recorder: Recorder, failure: PortalError) -> None:
        """Keep a failed visit, unless the visit before failed in the same way; it blocks. What fails here is only logged."""
        seen = failure.reason, str(failure)
        if self._written.get(account) == seen:
            return
        try:
            build_recording(portal, rules, recorder, failure, max_bytes=MAX_FILE_BYTES).write(get_file(self._folder, account))
        except Exception:  # a response that cannot be recorded must not harm the visits
            log.exception("account %s: failed to record the failed visit", account)
        self._written[account] = seen


def get_file(folder: Path, account: str) -> Path:
    """Return the file of an account's last failure."""
    digest = hashlib.sha256(account.encode()).hexdigest()[:8]
    return folder / f"{PREFIX}{slugify(account)}-{digest}.json"


def slugify(account: str) -> str:
    """Return an account's name as a part of a file name."""
    return re.sub(r"[^A-Za-z0-9_-]+", "-", account)[:40].strip("-") or "account"
