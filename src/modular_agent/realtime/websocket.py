"""One WebSocket connection: a task that reads what the client says, and one that sends; publishers touch neither.

Close codes: 1001 the server is going away, 1008 flooding, 1009 message too large, 1011 an error of ours, 1013 the
client does not read, 4001 taken over by a newer connection of the same client, 4408 idle. (4401 and 4403, no or bad
token and not allowed, belong to the handshake.)
"""

import asyncio
import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from modular_agent.errors import AgentError, Language
from modular_agent.kit.clock import Clock
from modular_agent.kit.dataclass import dataclass
from modular_agent.realtime.commands import Commands
from modular_agent.realtime.errors import (
    Disconnected,
    LogUnavailable,
    MessageRefused,
    MessageTooLarge,
    TooManyMessages,
)
from modular_agent.realtime.hub import Hub
from modular_agent.realtime.interests import Interest, Interests
from modular_agent.realtime.outbox import Outbox
from modular_agent.realtime.ports import Access, CommandHandler, Head, Transport
from modular_agent.realtime.protocol import (
    WILDCARD,
    ClientMessage,
    MessageId,
    Ping,
    Pong,
    Subscribe,
    Unsubscribe,
    answer,
    error_answer,
    parse,
)
from modular_agent.realtime.rate import TokenBucket
from modular_agent.realtime.subscription import BATCH

__all__ = [
    "FLOODING",
    "GOING_AWAY",
    "IDLE",
    "INTERNAL_ERROR",
    "TAKEN_OVER",
    "TOO_LARGE",
    "TOO_SLOW",
    "Connection",
    "ConnectionLimits",
]

GOING_AWAY: Final = 1001
FLOODING: Final = 1008
TOO_LARGE: Final = 1009
INTERNAL_ERROR: Final = 1011
TOO_SLOW: Final = 1013
TAKEN_OVER: Final = 4001
IDLE: Final = 4408
TOGETHER: Final = 32 * 1024  # bytes of messages that are sent together: what a slow client has read within the timeout

_log: Final = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionLimits:
    """Bounds of one connection; times in seconds."""

    message_bytes: int = 1 << 20
    subscriptions: int = 100
    rate: float = 50.0  # messages per second
    burst: float = 100.0
    violations: int = 200  # ignored messages in a row after which the connection is closed
    commands: int = 16  # not accepted yet
    waiting: int = 256  # accepted, waiting for their result
    outbox_bytes: int = 4 << 20
    send_timeout: float = 30.0  # of one message, or of several small ones
    ping_interval: float = 30.0  # of the client's silence
    idle_timeout: float = 120.0  # of the client's silence, if it has no subscription or is known to answer pings
    answer_timeout: float = 15.0  # of a subscription's start
    close_timeout: float = 5.0
    grace: float = 10.0  # for controls that are half done when the client goes away


class Connection:
    """Serves one client over `transport` until either side closes; `run` is its whole life.

    `owner` is whom the `client_id` belongs to (a tenant and a key, say): a client id of another owner is another
    client.
    """

    def __init__(
        self,
        transport: Transport,
        *,
        hub: Hub,
        access: Access,
        handler: CommandHandler,
        clock: Clock,
        client_id: str,
        owner: str,
        language: Language = "en",
        limits: ConnectionLimits | None = None,
    ) -> None:
        self.client_id = client_id
        self.owner = owner
        self.limits = limits or ConnectionLimits()
        bounds = self.limits
        self._transport = transport
        self._access = access
        self._clock = clock
        self._language: Language = language
        now = clock.monotonic()
        self._received_at = now
        self._pinged_at = now
        self._sending_since: float | None = None
        self._answers_pings = False
        self._violations = 0
        self._draining = False
        self._waiter: asyncio.Future[None] | None = None
        self._verdict: asyncio.Future[tuple[int, str]] = asyncio.get_running_loop().create_future()
        self._bucket = TokenBucket(rate=bounds.rate, burst=bounds.burst, now=now)
        self._outbox = Outbox(max_bytes=bounds.outbox_bytes, on_add=self._wake)
        self._interests = Interests(hub, limit=bounds.subscriptions, on_ready=self._wake)
        self._commands = Commands(
            handler,
            on_answer=self._outbox.add,
            clock=clock,
            limit=bounds.commands,
            max_waiting=bounds.waiting,
            language=language,
        )

    async def run(self) -> None:
        """Serves the client; returns when the connection is closed and nothing of it is running any more."""
        loop = asyncio.get_running_loop()
        tasks = [loop.create_task(self._receive()), loop.create_task(self._send())]
        try:
            await asyncio.wait([*tasks, self._verdict], return_when=asyncio.FIRST_COMPLETED)
        finally:
            await self._finish(tasks)

    def close(self, code: int, reason: str) -> None:
        """Asks for the connection to be closed; returns at once. The first code wins."""
        if not self._verdict.done():
            self._verdict.set_result((code, reason))

    def drain(self) -> None:
        """Sends what there is, then closes with 1001."""
        self._draining = True
        self._wake()

    def tick(self, now: float) -> None:
        """Called about every second with the monotonic time: pings a silent client, closes a stalled or idle one."""
        bounds = self.limits
        if self._sending_since is not None:
            if now - self._sending_since > bounds.send_timeout:
                self.close(TOO_SLOW, "The client does not read.")
            return
        silence = now - self._received_at
        if silence > bounds.idle_timeout and (self._answers_pings or not len(self._interests)):
            self.close(IDLE, "Nothing was heard of the client.")
        elif silence >= bounds.ping_interval and now - self._pinged_at >= bounds.ping_interval:
            self._pinged_at = now
            self._answer("ping", None, {})

    async def _finish(self, tasks: list["asyncio.Task[None]"]) -> None:
        for task in tasks:
            task.cancel()
        await self._interests.aclose()
        failures = [result for result in await asyncio.gather(*tasks, return_exceptions=True) if result is not None]
        gone = any(isinstance(failure, Disconnected) for failure in failures)
        failed = [error for error in failures if isinstance(error, Exception) and not isinstance(error, Disconnected)]
        for failure in failed:
            _log.error("The connection of client %s failed.", self.client_id, exc_info=failure)
        if not gone:
            if self._verdict.done():
                await self._close_transport(*self._verdict.result())
            elif failed:
                await self._close_transport(INTERNAL_ERROR, "Something went wrong inside the server.")
            else:  # whoever runs us was cancelled
                await self._close_transport(GOING_AWAY, "The server is shutting down.")
        await self._commands.aclose(self.limits.grace)

    async def _close_transport(self, code: int, reason: str) -> None:
        try:
            async with asyncio.timeout(self.limits.close_timeout):
                await self._transport.close(code, reason)
        except (Disconnected, TimeoutError):
            _log.info("Client %s did not see the close with %s.", self.client_id, code)

    async def _receive(self) -> None:
        while True:
            await self._outbox.room()
            payload = await self._transport.receive()
            now = self._received_at = self._clock.monotonic()
            size = len(payload) if isinstance(payload, bytes) else len(payload.encode())
            if size > self.limits.message_bytes:
                return self.close(TOO_LARGE, MessageTooLarge(limit=self.limits.message_bytes).message())
            wait = self._bucket.take(now)
            if wait:
                self._violations += 1
                if self._violations > self.limits.violations:
                    return self.close(FLOODING, "Too many messages.")
                self._refuse(TooManyMessages(rate=f"{self.limits.rate:g}", retry_after=round(wait, 3)), None)
                continue
            self._violations = 0
            try:
                message = parse(payload)
            except MessageRefused as error:
                self._refuse(error, error.message_id)
                continue
            await self._handle(message)

    async def _handle(self, message: ClientMessage) -> None:
        session_id = getattr(message, "session_id", None)
        try:
            async with asyncio.timeout(self.limits.answer_timeout):
                match message:
                    case Ping():
                        self._answer("pong", message.id, {})
                    case Pong():
                        self._answers_pings = True
                    case Subscribe():
                        await self._subscribe(message)
                    case Unsubscribe():
                        self._interests.end(message.session_id)
                        self._answer("unsubscribed", message.id, {}, session_id=message.session_id)
                    case _:
                        self._commands.start(message)
        except AgentError as error:
            self._refuse(error, message.id, session_id)
        except TimeoutError:
            self._refuse(LogUnavailable(session_id=session_id or WILDCARD), message.id, session_id)
        except Exception:  # noqa: BLE001 - one message must not cost the client its other subscriptions
            _log.exception("A message of client %s failed.", self.client_id)
            self._refuse(AgentError(), message.id, session_id)

    async def _subscribe(self, message: Subscribe) -> None:
        head: Head | None = None
        if message.session_id is None or message.session_id == WILDCARD:
            interest = self._interests.of_tenant(message, await self._access.tenant())
        else:
            session = await self._access.authorize(message.session_id)
            interest, head = await self._interests.of_session(message, session)
        data: dict[str, Any] = {"types": None if message.types is None else sorted(message.types)}
        if head is not None:
            data |= {"last_seq": head.last_seq, "generation": head.generation, "after_seq": message.after_seq}
        seq = None if head is None else head.last_seq
        # In front of the first event: the sender takes answers before events.
        self._answer("subscribed", message.id, data, session_id=message.session_id, seq=seq)
        self._interests.begin(interest)

    async def _send(self) -> None:
        while True:
            payload = self._outbox.take()
            if payload is not None:
                await self._transmit([payload])
                continue
            interest = self._interests.next_ready()
            if interest is not None:
                await self._deliver(interest)
            elif self._draining and not self._interests.fetching:
                return self.close(GOING_AWAY, "The server is shutting down.")
            else:
                self._waiter = asyncio.get_running_loop().create_future()
                await self._waiter

    async def _deliver(self, interest: Interest) -> None:
        subscription = interest.subscription
        try:
            batch = self._interests.read(interest)
        except AgentError as error:
            self._interests.drop(interest)
            self._refuse(error, None, interest.key)
            return
        if batch is None:
            return
        for payloads in _together([event.envelope for event in self._interests.once(interest, batch)]):
            await self._transmit(payloads)
        if subscription.ending is not None:
            self._interests.drop(interest)
        elif batch:
            self._interests.put_back(interest)
            if len(batch) >= BATCH:
                await asyncio.sleep(0)  # others' turn: a client that reads fast never makes `send` wait

    async def _transmit(self, payloads: Sequence[bytes]) -> None:
        self._sending_since = self._clock.monotonic()
        await self._transport.send(payloads)
        self._sending_since = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _answer(
        self,
        kind: str,
        message_id: MessageId,
        data: Mapping[str, Any],  # any JSON object
        *,
        session_id: str | None = None,
        seq: int | None = None,
    ) -> None:
        now_us = self._clock.now_us()
        self._outbox.add(answer(kind, message_id=message_id, now_us=now_us, data=data, session_id=session_id, seq=seq))

    def _refuse(self, error: AgentError, message_id: MessageId, session_id: str | None = None) -> None:
        self._outbox.add(
            error_answer(
                error,
                message_id=message_id,
                now_us=self._clock.now_us(),
                language=self._language,
                session_id=session_id,
            )
        )


def _together(payloads: Sequence[bytes]) -> Iterator[Sequence[bytes]]:
    """The same in order, in as few parts as `TOGETHER` allows."""
    start = size = 0
    for end, payload in enumerate(payloads):
        if size and size + len(payload) > TOGETHER:
            yield payloads[start:end]
            start, size = end, 0
        size += len(payload)
    if start < len(payloads):
        yield payloads[start:]
