"""The web configuration's door before every path, health included: certificate, rate limit, headers, users."""

from collections.abc import Awaitable, Callable

from aiohttp import web

from exporter.webconfig import Door

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def guard(app: web.Application, door: Door) -> None:
    """Put a door before an application."""

    @web.middleware
    async def ask(request: web.Request, handler: Handler) -> web.StreamResponse:
        certificate = request.transport.get_extra_info("peercert") if request.transport else None
        refused = await door.refusal(request.headers.get("Authorization"), certificate)
        if refused is None:
            return await handler(request)
        return web.Response(status=refused.status, text=refused.text, headers=refused.headers)

    async def add_headers(_: web.Request, response: web.StreamResponse) -> None:
        response.headers.update(door.headers)

    app.middlewares.insert(0, ask)
    app.on_response_prepare.append(add_headers)
