"""Who may talk to the page: this machine, or whoever knows the password, and never another web site.

A web site that somebody visits can send requests to 127.0.0.1, too. It cannot read the answers, but it could change
marks. So requests must be addressed to the host that is served (which also stops names that are made to point here),
and those that change something must come from a page of ours.
"""

import base64
import binascii
import hmac
from collections.abc import Iterable
from urllib.parse import unquote

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

MOST_BYTES = 2**20
"""Of what the browser sends at once: strokes are short, and no file is ever uploaded."""
OURS = "x-anomalib-sofs"
"""Header that our own requests have; another site's cannot, unless this server allowed it."""
CLOSED = (
    "/gradio_api/upload",
    "/gradio_api/file",
    "/gradio_api/proxy",
    "/gradio_api/stream",
    "/gradio_api/component_server",
)
"""Ways of Gradio to files and other servers that the page does not need."""
POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self' data:; connect-src 'self'; worker-src 'self' blob:; "
    "frame-ancestors 'none'"
)
"""Nothing is loaded from anywhere else, and nobody shows the page in a frame."""


class Guard:
    """Looks at every request before the page does.

    Args:
        app: The page.
        hosts: Names and addresses under which it is served, without port; empty takes any.
        password: What everybody has to know; ``None`` on a machine of one's own.
    """

    def __init__(self, app: ASGIApp, hosts: Iterable[str] = (), password: str | None = None) -> None:
        self.app = app
        self.hosts = frozenset(hosts)
        self.password = password

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request that may not pass, or hand it on."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self.app(scope, receive, send)
            return  # the page has no web sockets
        refusal = self._refusal(scope)
        if refusal is not None:
            await refusal(scope, receive, send)
            return
        await self.app(scope, _limited(receive), _with_policy(send))

    def _refusal(self, scope: Scope) -> PlainTextResponse | None:
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if self.hosts and host.rsplit(":", 1)[0].strip("[]") not in self.hosts:
            return PlainTextResponse(f"This page is not served as {host!r}. Open the address that it printed.", 421)
        if self.password is not None and not _knows(headers.get("authorization", ""), self.password):
            return PlainTextResponse(
                "Any name, and the password that the page was started with.",
                401,
                {"WWW-Authenticate": 'Basic realm="anomalib-sofs", charset="UTF-8"'},
            )
        path = unquote(scope["path"])
        if path.startswith(CLOSED):
            return PlainTextResponse("Not served here.", 404)
        if scope["method"] not in {"GET", "HEAD"}:
            origin = headers.get("origin")
            if (origin is not None and origin.split("//", 1)[-1] != host) or (
                path.startswith("/sofs") and OURS not in headers
            ):
                return PlainTextResponse("Only the page itself may change anything.", 403)
            length = headers.get("content-length", "0")
            if not length.isdigit() or int(length) > MOST_BYTES:
                return PlainTextResponse(f"At most {MOST_BYTES} bytes are taken at once.", 413)
        return None


def _knows(authorization: str, password: str) -> bool:
    kind, _, given = authorization.partition(" ")
    try:
        decoded = base64.b64decode(given, validate=True)
    except (binascii.Error, ValueError):
        return False
    return kind.lower() == "basic" and hmac.compare_digest(decoded.partition(b":")[2], password.encode())


def _limited(receive: Receive) -> Receive:
    """Count what comes in: a request need not say how long it is."""
    seen = 0

    async def counted() -> Message:
        nonlocal seen
        message = await receive()
        seen += len(message.get("body", b""))
        if seen > MOST_BYTES:
            return {"type": "http.disconnect"}
        return message

    return counted


def _with_policy(send: Send) -> Send:
    async def sent(message: Message) -> None:
        if message["type"] == "http.response.start":
            added = [
                ("content-security-policy", POLICY),
                ("x-content-type-options", "nosniff"),
                ("referrer-policy", "no-referrer"),
            ]
            message["headers"] = [*message.get("headers", []), *((k.encode(), v.encode()) for k, v in added)]
        await send(message)

    return sent
