"""`builtin.http_fetch`: reads a page of the public internet.

The address is checked where it is used: the resolver refuses names that lead to other than public addresses, the
connector's sockets are made for checked addresses only, and both hold for every redirect. So neither a second answer
of the name server nor an unusual spelling of an address gets through.
"""

import asyncio
import ipaddress
import re
import socket
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import ThreadedResolver
from yarl import URL

from modular_agent.engine.tools.builtin.addresses import is_public, literal
from modular_agent.engine.tools.builtin.http_fetch_options import HttpFetchOptions
from modular_agent.engine.tools.builtin.page_text import page_text
from modular_agent.engine.tools.builtin.tool import BuiltinTool, Refused, Setup
from modular_agent.engine.tools.port import ToolContext
from modular_agent.kit.dataclass import dataclass

__all__ = ["http_fetch"]

DESCRIPTION: Final = "Fetches a web page or an HTTP resource and returns its text. HTML is reduced to readable text."
REDIRECTS: Final = 5
REDIRECT_STATUSES: Final = frozenset({301, 302, 303, 307, 308})
CHUNK: Final = 65_536
TEXTUAL: Final = re.compile(
    r"text/|application/(?:[\w.+-]*\+)?(?:json|xml)|application/(?:javascript|x-ndjson|yaml|x-yaml|toml|x-www-form-urlencoded)"
)
META_CHARSET: Final = re.compile(rb"<meta[^>]{0,200}?charset\s*=\s*[\"']?([\w-]{1,40})", re.IGNORECASE)


def http_fetch(
    options: HttpFetchOptions, setup: Setup, *, names: Callable[[], AbstractResolver] = ThreadedResolver
) -> BuiltinTool:
    """The tool that fetches what `options` allow; `names` makes what looks up names."""
    fetcher = _Fetcher(options, names)

    async def run(arguments: Mapping[str, Any], context: ToolContext) -> str:
        del context
        return await fetcher.fetch(arguments["url"], arguments.get("method") or options.methods[0])

    return BuiltinTool(
        setup, description=DESCRIPTION, parameters=_parameters(options), run=run, timeout=options.timeout
    )


def _parameters(options: HttpFetchOptions) -> Mapping[str, Any]:
    return {
        "type": "object",
        "properties": {
            "url": {"type": "string", "description": "An http or https address", "maxLength": 8_192},
            "method": {"type": "string", "enum": list(options.methods), "description": options.methods[0]},
        },
        "required": ["url"],
        "additionalProperties": False,
    }


class _PrivateAddress(OSError):
    """An address that is not public; the text is for the model."""


class _Rules:
    """Who may be reached."""

    def __init__(self, options: HttpFetchOptions) -> None:
        self._hosts = tuple(host.lower() for host in options.hosts)
        self._open = options.allow_private
        self._private = frozenset(host.lower().strip("[]") for host in options.private_hosts)

    def check_url(self, url: URL) -> None:
        if url.scheme not in ("http", "https") or not url.host:
            raise Refused("Only http and https addresses can be fetched.")
        host = url.host.lower().rstrip(".")
        if self._hosts and not any(_covers(pattern, host) for pattern in self._hosts):
            raise Refused(f"The host {host} is not among those that may be fetched.")
        if (address := literal(host)) is not None:
            self.check_address(host, str(address))

    def check_address(self, host: str, address: str) -> None:
        """Raises `_PrivateAddress` unless `host` may be reached at `address`."""
        if not self.allows_private(host) and not is_public(ipaddress.ip_address(address.partition("%")[0])):
            raise _PrivateAddress(f"The host {host} has an address that is not public and cannot be fetched.")

    def allows_private(self, host: str) -> bool:
        return self._open or host.lower().strip("[]").rstrip(".") in self._private


class _PublicResolver(AbstractResolver):
    """Answers with addresses that were checked; the connection goes to these, not to the name."""

    def __init__(self, rules: _Rules, names: AbstractResolver) -> None:
        self._rules = rules
        self._inner = names

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        found = await self._inner.resolve(host, port, family)
        for result in found:
            self._rules.check_address(host, result["host"])
        return found

    async def close(self) -> None:
        await self._inner.close()


@dataclass(frozen=True, slots=True)
class _Body:
    data: bytes
    complete: bool


class _Fetcher:
    def __init__(self, options: HttpFetchOptions, names: Callable[[], AbstractResolver]) -> None:
        self._options = options
        self._names = names
        self._rules = _Rules(options)

    async def fetch(self, address: str, method: str) -> str:
        url = _parsed(address)
        try:
            for _ in range(REDIRECTS + 1):
                self._rules.check_url(url)
                answer = await self._hop(method, url)
                if isinstance(answer, str):
                    return answer
                url = answer
        except _PrivateAddress as error:
            raise Refused(str(error)) from error
        except (aiohttp.ClientError, ValueError) as error:
            cause: BaseException | None = error
            while cause is not None and not isinstance(cause, _PrivateAddress):
                cause = cause.__cause__ or cause.__context__
            raise Refused(str(cause or f"The request failed: {error or type(error).__name__}")) from error
        raise Refused(f"The address redirects more than {REDIRECTS} times.")

    async def _hop(self, method: str, url: URL) -> str | URL:
        """The text of the answer, or where it redirects to."""
        host = url.host or ""
        connector = aiohttp.TCPConnector(
            resolver=_PublicResolver(self._rules, self._names()),
            use_dns_cache=False,
            force_close=True,
            socket_factory=partial(self._socket, host),
        )
        headers = {"User-Agent": self._options.user_agent, "Accept": "text/html, application/json, text/*, */*;q=0.5"}
        timeout = aiohttp.ClientTimeout(total=None)  # the call has its own
        async with (
            aiohttp.ClientSession(
                connector=connector, headers=headers, timeout=timeout, cookie_jar=aiohttp.DummyCookieJar()
            ) as session,
            session.request(method, url, allow_redirects=False) as response,
        ):
            location = response.headers.get("Location")
            if response.status in REDIRECT_STATUSES and location:
                return _parsed(location, base=url)
            body = await self._read(response)
            text = await asyncio.to_thread(_text, response, body, str(url))
            if response.status >= 400:
                raise Refused(text)
            return text

    def _socket(self, host: str, info: Any) -> socket.socket:
        family, kind, protocol, _, address = info
        self._rules.check_address(host, address[0])
        return socket.socket(family, kind, protocol)

    async def _read(self, response: aiohttp.ClientResponse) -> _Body:
        data = bytearray()
        async for chunk in response.content.iter_chunked(CHUNK):
            data += chunk
            if len(data) > self._options.max_bytes:
                return _Body(bytes(data[: self._options.max_bytes]), complete=False)
        return _Body(bytes(data), complete=True)


def _parsed(address: str, *, base: URL | None = None) -> URL:
    try:
        url = URL(address.strip())
        url = base.join(url) if base is not None else url
    except ValueError as error:
        raise Refused(f"This is not an address: {error}") from error
    # No credentials: those of a redirect would be a gift to whoever is named in it.
    return url.with_user(None) if url.host and url.raw_user else url


def _covers(pattern: str, host: str) -> bool:
    return host.endswith(pattern[1:]) if pattern.startswith("*.") else host == pattern


def _text(response: aiohttp.ClientResponse, body: _Body, url: str) -> str:
    kind = response.content_type
    lines = [f"{response.status} {response.reason or ''}".strip(), url, f"Content-Type: {kind}"]
    if response.method == "HEAD":
        names = ("Content-Length", "Last-Modified", "ETag")
        lines += [f"{name}: {response.headers[name]}" for name in names if name in response.headers]
        return "\n".join(lines)
    if not body.complete:
        lines.append(f"(the first {len(body.data)} bytes; there is more)")
    if not TEXTUAL.match(kind) and b"\x00" in body.data[:CHUNK]:
        return "\n".join([*lines, "", f"(binary content of {len(body.data)} bytes, not shown)"])
    text = _decoded(response, body.data)
    if kind in ("text/html", "application/xhtml+xml"):
        text = page_text(text, url=url)
    return "\n".join([*lines, "", text])


def _decoded(response: aiohttp.ClientResponse, data: bytes) -> str:
    declared = META_CHARSET.search(data[:2_048])
    for charset in (response.charset, declared and declared[1].decode(), "utf-8"):
        try:
            if charset:
                return data.decode(charset, "replace")
        except LookupError:
            continue  # a charset that nobody knows: the next guess
    return data.decode("utf-8", "replace")
