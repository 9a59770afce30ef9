"""Measuring in a process of its own, so that no measurement finds the memory of another."""

import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import Any, TypeVar

Given = TypeVar("Given")


def apart(function: Callable[..., Given], *given: Any) -> Given:
    """Call a function in a new process; gives what it gives."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *given).result()
