"""Which of several processes an account belongs to: the same one on every machine and after every restart."""

import hashlib
import re
from dataclasses import dataclass
from typing import Self


@dataclass(frozen=True, slots=True)
class Shard:
    """The `index`-th of `count` processes that share one configuration, counted from 1."""

    index: int = 1
    count: int = 1

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the shard written as `I/N`; raise ValueError that shows the form."""
        match = re.fullmatch(r"([0-9]{1,4})/([0-9]{1,4})", text, re.ASCII)
        if not match or not 1 <= int(match[1]) <= int(match[2]):
            raise ValueError(f"{text!r} is not I/N with I from 1 to N, like 2/3")
        return cls(int(match[1]), int(match[2]))

    def contains(self, account: str) -> bool:
        """Return whether an account belongs to this shard: by a hash of its name, so that a new account moves no other."""
        return int.from_bytes(hashlib.sha256(account.encode()).digest()[:8]) % self.count == self.index - 1


ALL_ACCOUNTS = Shard()
"""All accounts."""
