"""One address of a provider: posts JSON, hands on what streams back, and turns every failure into a `ProviderError`."""

import asyncio
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Any, Final, Protocol, TypeAlias

import aiohttp
import orjson
from aiohttp import hdrs
from multidict import CIMultiDict
from yarl import URL

from modular_agent.engine.providers.errors import ProviderError, ProviderErrorKind
from modular_agent.engine.providers.poster import Poster, Response, read_any
from modular_agent.engine.providers.refusals import Refusal, read_refusal, reason_of_status
from modular_agent.engine.providers.sse import EventTooLarge, SSEParser
from modular_agent.kit.clock import Clock

__all__ = ["Answer", "Endpoint"]

MAX_ERROR_BODY: Final = 64 * 1024
MIN_SECRET: Final = 12
MAX_DOCUMENT: Final = 64 * 1024 * 1024
LINGER: Final = 0.05
"""Seconds to wait for the end of a body whose last event has come: a connection is kept only if its body was read."""

_SSE_STARTS: Final = (b"data:", b"event:", b"id:", b"retry:", b":")

_Response: TypeAlias = Response | aiohttp.ClientResponse


class Answer(Protocol):
    """Takes an answer as it arrives."""

    def event(self, data: bytes) -> bool:
        """Takes the data of one server-sent event; true when it was the last."""
        ...

    def document(self, document: Any) -> None:  # any JSON value, not yet checked
        """Takes an answer that did not stream, as parsed JSON."""
        ...


class Endpoint:
    """One URL of a provider with its headers, called over a shared session (which it does not own).

    `connect_timeout` is in seconds and is for the connection alone. `key` and the longer values of `headers` are kept
    out of every error text.
    """

    def __init__(
        self,
        session: aiohttp.ClientSession,
        *,
        url: str,
        headers: Mapping[str, str],
        provider: str,
        model: str,
        clock: Clock,
        key: str | None = None,
        connect_timeout: float = 10.0,
    ) -> None:
        self._session = session
        self._url = URL(url)
        self._headers = CIMultiDict[str](
            {
                hdrs.CONTENT_TYPE: "application/json",
                hdrs.ACCEPT: "text/event-stream",
                hdrs.ACCEPT_ENCODING: "identity",  # a compressed stream waits in the compressor
                hdrs.USER_AGENT: "modular-agent",
            }
        )
        self._headers.update(headers)  # whatever their letters' case
        self._provider = provider
        self._model = model
        self._clock = clock
        # Configured headers may hold keys too; a short value is none, and would blot out innocent text.
        self._secrets = tuple(filter(None, (key, *(value for value in headers.values() if len(value) >= MIN_SECRET))))
        self._connect_timeout = connect_timeout
        self._timeout = aiohttp.ClientTimeout(total=None, sock_connect=connect_timeout)
        poster = Poster(session, self._url, self._headers, self._timeout)
        self._posted = self._through_proxy if session.trust_env else poster.post

    async def post(self, body: bytes, *, timeout: float, answer: Answer) -> None:  # noqa: ASYNC109
        """Posts `body` and feeds `answer`; `timeout` is in seconds, from here to the end of the answer.

        Raises `ProviderError`. When it is cancelled, the connection is closed before the cancellation goes on.
        """
        try:
            async with asyncio.timeout(timeout):
                await self._exchange(body, answer)
        except TimeoutError as error:
            if isinstance(error, aiohttp.ServerTimeoutError):
                detail = f"no connection within {self._connect_timeout:g} s"
            else:
                detail = f"no complete answer within {timeout:g} s"
            raise self.error(ProviderErrorKind.TIMEOUT, detail) from error
        except aiohttp.InvalidURL as error:
            raise self.error(ProviderErrorKind.BAD_REQUEST, "the base URL is not a URL") from error
        except (aiohttp.ClientError, OSError) as error:
            raise self.error(ProviderErrorKind.CONNECTION, str(error) or type(error).__name__) from error
        except (KeyError, TypeError, AttributeError, IndexError) as error:
            detail = f"an answer of an unexpected shape ({type(error).__name__}: {error})"
            raise self.error(ProviderErrorKind.BAD_RESPONSE, detail) from error
        except EventTooLarge as error:
            raise self.error(ProviderErrorKind.BAD_RESPONSE, str(error), retryable=False) from error

    def error(
        self,
        reason: ProviderErrorKind,
        detail: str,
        *,
        status: int | None = None,
        retry_after: float | None = None,
        retryable: bool | None = None,
    ) -> ProviderError:
        """A `ProviderError` of this endpoint."""
        return ProviderError(
            reason,
            provider=self._provider,
            model=self._model,
            detail=detail,
            status=status,
            retry_after=retry_after,
            retryable=retryable,
            secrets=self._secrets,
        )

    def refused(
        self, refusal: Refusal, *, status: int | None = None, retry_after: float | None = None
    ) -> ProviderError:
        """The `ProviderError` for what a provider says in an error object."""
        return self.error(
            refusal.reason,
            refusal.detail,
            status=status,
            retry_after=refusal.retry_after if retry_after is None else retry_after,
            retryable=refusal.retryable,
        )

    def parse(self, data: bytes) -> Any:  # any JSON value
        """`data` as JSON; raises `ProviderError` (bad_response) if it is none."""
        try:
            return orjson.loads(data)
        except orjson.JSONDecodeError as error:
            start = data[:80].decode("utf-8", "replace")
            raise self.error(ProviderErrorKind.BAD_RESPONSE, f"broken JSON ({error}) in: {start}") from error

    async def _exchange(self, body: bytes, answer: Answer) -> None:
        response = await self._posted(body)
        try:
            if response.status != 200:
                raise await self._failure(response)
            if response.content_type == "text/event-stream":
                await self._stream(response, answer, b"")
            else:
                await self._whole(response, answer)
        except BaseException:
            response.close()
            raise
        response.release()

    async def _through_proxy(self, body: bytes) -> aiohttp.ClientResponse:
        return await self._session.post(
            self._url, data=body, headers=self._headers, timeout=self._timeout, allow_redirects=False
        )

    async def _stream(self, response: _Response, answer: Answer, first: bytes) -> None:
        parser = SSEParser()
        content = response.content
        chunk = first or await read_any(content)
        while chunk:
            for data in parser.feed(chunk):
                if answer.event(data):
                    await self._finish(response)
                    return
            chunk = await read_any(content)
        for data in parser.close():
            if answer.event(data):
                return

    async def _finish(self, response: _Response) -> None:
        """Reads the end of a body after its last event, so that the connection can be used again."""
        if response.content.at_eof():
            return
        try:
            async with asyncio.timeout(LINGER):
                while await response.content.readany():
                    pass
        except (TimeoutError, aiohttp.ClientError):
            response.close()  # the answer is complete; only the connection is lost

    async def _whole(self, response: _Response, answer: Answer) -> None:
        """An answer that does not call itself a stream: JSON, or a stream under a wrong name."""
        chunk = await response.content.readany()
        if chunk.lstrip().startswith(_SSE_STARTS):
            await self._stream(response, answer, chunk)
            return
        chunks, size = [chunk], len(chunk)
        while chunk:
            chunk = await response.content.readany()
            chunks.append(chunk)
            size += len(chunk)
            if size > MAX_DOCUMENT:
                raise self.error(ProviderErrorKind.BAD_RESPONSE, f"more than {MAX_DOCUMENT} bytes", retryable=False)
        data = b"".join(chunks)
        if not data.strip():
            raise self.error(ProviderErrorKind.BAD_RESPONSE, "an empty answer")
        if not data.lstrip().startswith(b"{"):
            start = data[:80].decode("utf-8", "replace")
            detail = f"expected a stream or JSON, got {response.content_type}: {start}"
            raise self.error(ProviderErrorKind.BAD_RESPONSE, detail, retryable=False)
        answer.document(self.parse(data))

    async def _failure(self, response: _Response) -> ProviderError:
        status = response.status
        retry_after = self._retry_after(response.headers)
        if status < 400:
            return self.error(
                ProviderErrorKind.BAD_RESPONSE,
                "an unexpected answer; check the base URL",
                status=status,
                retryable=False,
            )
        body = b""
        try:
            while len(body) < MAX_ERROR_BODY and (chunk := await response.content.readany()):
                body += chunk
        except (aiohttp.ClientError, OSError):
            pass  # the status alone says enough
        refusal = read_refusal(body, fallback=reason_of_status(status))
        return self.refused(refusal, status=status, retry_after=retry_after)

    def _retry_after(self, headers: Mapping[str, str]) -> float | None:
        """Seconds, from `retry-after-ms` or from `Retry-After` (seconds or an HTTP date: RFC 9110, 10.2.3)."""
        try:
            if milliseconds := headers.get("retry-after-ms"):
                return max(0.0, float(milliseconds) / 1000)
            value = headers.get(hdrs.RETRY_AFTER, "").strip()
            if not value:
                return None
            if value.replace(".", "", 1).isdigit():
                return float(value)
            return max(0.0, parsedate_to_datetime(value).timestamp() - self._clock.now_us() / 1e6)
        except (ValueError, OverflowError):
            return None
