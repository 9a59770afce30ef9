"""Listen on configured addresses, or on sockets inherited from systemd."""

import asyncio
import logging
import os
import socket
from collections.abc import MutableMapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Self

from aiohttp import web

from exporter.web.connections import GetTlsContext, LimitedRunner, is_worth_logging

FIRST_SYSTEMD_FD = 3
"""The descriptor of the first socket that systemd passes."""


@dataclass(frozen=True, slots=True)
class ListenAddress:
    """Where to listen; an empty host is every interface."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse `HOST:PORT`, `:PORT` or `[::1]:PORT`; raise ValueError."""
        host, colon, port = text.rpartition(":")
        bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
        if not colon or not port.isdecimal() or int(port) > 65535 or (":" in host and bare == host):
            hint = f"; write :{text}" if text.isdecimal() else ""
            raise ValueError(f"{text!r} is not HOST:PORT, :PORT or [IPV6]:PORT{hint}")
        return cls(bare, int(port))

    @property
    def is_loopback(self) -> bool:
        """Return whether only this machine can reach it."""
        return self.host in ("localhost", "::1") or self.host.startswith("127.")

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


async def listen(
    app: web.Application,
    addresses: list[ListenAddress],
    stack: AsyncExitStack,
    *,
    get_tls_context: GetTlsContext = lambda: None,
    sockets: Sequence[socket.socket] = (),
) -> list[ListenAddress]:
    """Serve on all addresses and sockets until the stack is closed; return the bound addresses.

    Raise OSError that names the address.
    """
    # No request body is gzip: if aiohttp decompressed it, a corrupt one would end in a traceback.
    runner = LimitedRunner(
        app,
        get_tls_context=get_tls_context,
        access_log=None,
        shutdown_timeout=2,
        handler_cancellation=True,
        auto_decompress=False,
    )
    logging.getLogger("aiohttp.server").addFilter(is_worth_logging)
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    bound = []
    for address in addresses:
        try:
            site = web.TCPSite(runner, address.host or None, address.port)
            await site.start()
        except OSError as error:
            raise OSError(f"cannot listen on {address}: {error.strerror or error}") from None
        bound.append(_find_bound_address(site, address))
    for listener in sockets:
        await web.SockSite(runner, listener).start()
        bound.append(_address_from_socket(listener))
    return bound


def open_inherited_sockets(environment: MutableMapping[str, str], first: int = FIRST_SYSTEMD_FD) -> list[socket.socket]:
    """Open the listening sockets that systemd passes to this process (sd_listen_fds(3)).

    Raise OSError if there are none.
    """
    count, process = environment.pop("LISTEN_FDS", ""), environment.pop("LISTEN_PID", "")
    environment.pop("LISTEN_FDNAMES", None)
    if process != str(os.getpid()) or not count.isdecimal() or not int(count):
        raise OSError("systemd passed no socket to this process (LISTEN_FDS)")
    sockets = []
    for number in range(first, first + int(count)):
        os.set_inheritable(number, False)
        sockets.append(socket.socket(fileno=number))
    return sockets


def _find_bound_address(site: web.TCPSite, address: ListenAddress) -> ListenAddress:
    server = site._server  # aiohttp exposes the port that the system chose nowhere else
    assert isinstance(server, asyncio.Server)
    found: socket.socket = server.sockets[0]
    return ListenAddress(address.host, found.getsockname()[1])


def _address_from_socket(listener: socket.socket) -> ListenAddress:
    name = listener.getsockname()
    return ListenAddress(name[0], name[1]) if isinstance(name, tuple) else ListenAddress(str(name), 0)
