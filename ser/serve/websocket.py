"""The websocket protocol of uvicorn, with limits for a client that does not keep to the protocol.

uvicorn itself answers the pings of a client that reads nothing, collects the fragments of a message
in any number, logs refused handshakes and text that is not UTF-8 as faults of the server, and waits
without limit for a handshake that it cannot read and for a client that does not read the end.
"""

from asyncio.transports import BaseTransport

from uvicorn._types import ASGISendEvent
from uvicorn.protocols.utils import ClientDisconnected
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import Frame

MESSAGE = 1 << 18  # bytes: 8 s at 16 kHz
FRAGMENTS = 1_000  # of a message
CLOSING = 3.0  # s that a client has to read the rest and to close, too


class LiveProtocol(WebSocketsSansIOProtocol):
    """A connection that costs bounded memory, whatever its client does."""

    def connection_made(self, transport: BaseTransport) -> None:
        """Begin the connection."""
        super().connection_made(transport)
        self.close_timeout = CLOSING

    def data_received(self, data: bytes) -> None:
        """Pass data on; disconnect after a handshake that cannot be read."""
        super().data_received(data)
        if self.conn.handshake_exc is not None:
            self.transport.write(b"".join(self.conn.data_to_send()))
            self.transport.close()

    def handle_ping(self) -> None:
        """Answer, unless the client reads no answers."""
        if self.writable.is_set():
            super().handle_ping()
        else:
            self.transport.abort()

    def handle_cont(self, event: Frame) -> None:
        """Collect a fragment; too many end the connection."""
        if len(self.frames) >= FRAGMENTS:
            self._fail(1008, f"a message has more than {FRAGMENTS} fragments.")
        else:
            super().handle_cont(event)

    def send_receive_event_to_app(self) -> None:
        """Pass a message on; text that is not UTF-8 ends the connection."""
        if self.curr_msg_data_type == "text":
            try:
                b"".join(self.frames).decode()
            except UnicodeDecodeError:
                self._fail(1007, "a text message is not UTF-8.")
                return
        super().send_receive_event_to_app()

    async def send(self, message: ASGISendEvent) -> None:
        """Send a message; raises `ClientDisconnected` after the end."""
        await self.writable.wait()
        if self.close_sent:
            raise ClientDisconnected
        await super().send(message)
        if self.close_sent:  # by a response that refuses the handshake, too
            self.handshake_complete = True

    async def run_asgi(self) -> None:
        """Serve the connection, and do not wait for what is not read at its end."""
        await super().run_asgi()
        self.loop.call_later(CLOSING, self.transport.abort)

    def _fail(self, code: int, reason: str) -> None:
        if not self.close_sent:
            self.conn.fail(code, reason)
            self.handle_parser_exception()
