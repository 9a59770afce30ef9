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
        """Read `I/N`; raises ValueError that says the form."""
        found = re.fullmatch(r"([0-9]{1,4})/([0-9]{1,4})", text, re.ASCII)
        if not found or not 1 <= int(found[1]) <= int(found[2]):
            raise ValueError(f"{text!r} is not I/N with I from 1 to N, like 2/3")
        return cls(int(found[1]), int(found[2]))

    def contains(self, account: str) -> bool:
        """Tell whether an account is this one's: by a hash of its name, so that a new account moves no other."""
        return int.from_bytes(hashlib.sha256(account.encode()).digest()[:8]) % self.count == self.index - 1


ALL_ACCOUNTS = Shard()
"""All accounts."""
