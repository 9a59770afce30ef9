"""Prometheus's remote read over the ledger, answered as it is read."""

import asyncio
import logging
from contextlib import aclosing

from aiohttp import web

from exporter.errors import LedgerError, RequestError
from exporter.history import History

HISTORY: web.AppKey[History] = web.AppKey("history", History)
LONGEST_READ = 300
"""Seconds in which a remote read is answered, or broken off: a listener that sleeps holds a view of the ledger open."""
LONGEST_STANDSTILL = 30
"""Seconds in which a listener takes a further piece: meanwhile nothing that the ledger learns can be folded into its file."""
log = logging.getLogger(__name__)


def offer_history(app: web.Application, history: History) -> None:
    """Answer Prometheus's remote read."""
    app[HISTORY] = history
    app.router.add_post("/api/v1/read", remote_read)


async def remote_read(request: web.Request) -> web.StreamResponse:
    """Answer a remote read as it is read; what goes wrong before the first piece has a status of its own."""
    if request.headers.get("Content-Encoding", "snappy").lower() != "snappy":
        raise web.HTTPUnsupportedMediaType(text="The request must be compressed with snappy.\n")
    response = web.StreamResponse(headers={"Content-Type": "application/x-protobuf", "Content-Encoding": "snappy"})
    try:
        async with asyncio.timeout(LONGEST_READ), aclosing(request.app[HISTORY].read(await request.read())) as pieces:
            async for piece in pieces:
                if not response.prepared:
                    await response.prepare(request)
                async with asyncio.timeout(LONGEST_STANDSTILL):
                    await response.write(piece)
    except RequestError as error:
        raise web.HTTPBadRequest(text=f"{error}\n") from None
    except (LedgerError, TimeoutError) as error:
        log.warning("a remote read was broken off: %s", str(error) or "it took too long")
        if not response.prepared:
            raise web.HTTPServiceUnavailable(text="The ledger cannot be read now.\n") from None
        response.force_close()
        if request.transport:
            request.transport.abort()
    return response
