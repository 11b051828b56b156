import asyncio
import gzip
import socket
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from aiohttp import web
from aiohttp.abc import AbstractResolver, ResolveResult

from modular_agent.engine.tools.builtin.http_fetch import http_fetch
from modular_agent.engine.tools.builtin.http_fetch_options import HttpFetchOptions
from modular_agent.engine.tools.builtin.tool import Setup
from modular_agent.engine.tools.port import ToolContext, ToolOutcome
from modular_agent.kit.clock import SystemClock

Fetch = Callable[..., Any]


class _Site:
    """A real server on the loopback; `seen` holds the paths that were asked for."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.port = 0

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.seen.append(f"{request.method} {request.path}")
        match request.path:
            case "/page":
                return web.Response(text="<h1>Hi</h1><script>x</script><a href='/a'>b</a>", content_type="text/html")
            case "/json":
                return web.json_response({"a": 1})
            case "/latin":
                return web.Response(body="é".encode("latin-1"), headers={"Content-Type": "text/plain; charset=latin-1"})
            case "/binary":
                return web.Response(body=b"\x00\x01\x02", content_type="image/png")
            case "/large":
                return web.Response(text="x" * 100_000)
            case "/bomb":
                body = gzip.compress(b"\x20" * 50_000_000)
                return web.Response(body=body, headers={"Content-Encoding": "gzip", "Content-Type": "text/plain"})
            case "/missing":
                return web.Response(status=404, text="there is nothing")
            case "/slow":
                await asyncio.sleep(30)
            case "/loop":
                raise web.HTTPFound("/loop")
            case "/moved":
                raise web.HTTPMovedPermanently("/json")
            case "/headers":
                return web.json_response(dict(request.headers))
            case "/away":
                raise web.HTTPFound(request.query["to"])
        return web.Response(text="ok")


@pytest.fixture
async def site() -> AsyncIterator[_Site]:
    site = _Site()
    app = web.Application()
    app.router.add_route("*", "/{rest:.*}", site.answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    listener = web.TCPSite(runner, "127.0.0.1", 0)
    await listener.start()
    site.port = runner.addresses[0][1]
    yield site
    await runner.cleanup()


@pytest.fixture
def fetch(context: ToolContext) -> Fetch:
    async def call(url: str, *, method: str | None = None, names: Any = None, **options: Any) -> ToolOutcome:
        setup = Setup(name="web", root=context.files, clock=SystemClock())
        more = {"names": names} if names is not None else {}
        tool = http_fetch(HttpFetchOptions(**options), setup, **more)
        return await tool.call({"url": url, **({"method": method} if method else {})}, context)

    return call


LOCAL: dict[str, Any] = {"private_hosts": ["localhost"]}


async def test_a_page_is_reduced_to_text(site: _Site, fetch: Fetch) -> None:
    outcome = await fetch(f"http://localhost:{site.port}/page", **LOCAL)
    assert outcome.success
    assert outcome.content.startswith(f"200 OK\nhttp://localhost:{site.port}/page\nContent-Type: text/html\n\n# Hi")
    assert f"[b](http://localhost:{site.port}/a)" in outcome.content
    assert "script" not in outcome.content


async def test_text_is_decoded_and_bytes_are_not_shown(site: _Site, fetch: Fetch) -> None:
    assert (await fetch(f"http://localhost:{site.port}/latin", **LOCAL)).content.endswith("\n\né")
    assert (await fetch(f"http://localhost:{site.port}/json", **LOCAL)).content.endswith('\n\n{"a": 1}')
    assert "binary content of 3 bytes" in (await fetch(f"http://localhost:{site.port}/binary", **LOCAL)).content


async def test_head_gives_headers_only(site: _Site, fetch: Fetch) -> None:
    outcome = await fetch(f"http://localhost:{site.port}/large", method="HEAD", **LOCAL)
    assert "Content-Length: 100000" in outcome.content
    assert site.seen == ["HEAD /large"]


@pytest.mark.parametrize("method", ["POST", "DELETE", "get"])
async def test_other_methods_are_refused(site: _Site, fetch: Fetch, method: str) -> None:
    assert not (await fetch(f"http://localhost:{site.port}/", method=method, **LOCAL)).success
    assert site.seen == []


@pytest.mark.parametrize("path", ["large", "bomb"])
async def test_the_size_is_bounded(site: _Site, fetch: Fetch, path: str) -> None:
    outcome = await fetch(f"http://localhost:{site.port}/{path}", max_bytes=2_000, **LOCAL)
    assert len(outcome.content) < 2_300
    assert "the first 2000 bytes" in outcome.content


async def test_an_error_status_is_a_failure_with_its_text(site: _Site, fetch: Fetch) -> None:
    outcome = await fetch(f"http://localhost:{site.port}/missing", **LOCAL)
    assert not outcome.success
    assert outcome.content.startswith("404")
    assert "there is nothing" in outcome.content


async def test_a_slow_answer_times_out(site: _Site, fetch: Fetch) -> None:
    outcome = await fetch(f"http://localhost:{site.port}/slow", timeout=0.2, **LOCAL)
    assert outcome.error_type == "TimeoutError"


async def test_redirects_are_followed_and_bounded(site: _Site, fetch: Fetch) -> None:
    assert '{"a": 1}' in (await fetch(f"http://localhost:{site.port}/moved", **LOCAL)).content
    site.seen.clear()
    assert "redirects more than" in (await fetch(f"http://localhost:{site.port}/loop", **LOCAL)).content
    assert len(site.seen) == 6


HOSTS = [
    "localhost",
    "127.0.0.1",
    "127.1",
    "2130706433",
    "0x7f000001",
    "0177.0.0.1",
    "0",
    "[::1]",
    "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]",
    "127.0.0.1.",
    "LOCALHOST",
    "①②⑦.0.0.1",
]


@pytest.mark.parametrize("host", HOSTS)
async def test_a_private_address_is_refused_however_it_is_written(site: _Site, fetch: Fetch, host: str) -> None:
    outcome = await fetch(f"http://{host}:{site.port}/page")
    assert not outcome.success
    assert site.seen == []


@pytest.mark.parametrize(
    "url",
    [
        "http://169.254.169.254/latest/meta-data",
        "http://10.0.0.1/",
        "http://[fd00:ec2::254]/",
        "http://100.100.100.200/",
    ],
)
async def test_metadata_and_private_networks_are_refused_at_once(fetch: Fetch, url: str) -> None:
    outcome = await fetch(url, timeout=5.0)
    assert "not public" in outcome.content


@pytest.mark.parametrize("host", HOSTS[1:9])
async def test_a_redirect_to_a_private_address_is_refused(site: _Site, fetch: Fetch, host: str) -> None:
    target = f"http://{host}:{site.port}/secret"
    outcome = await fetch(f"http://localhost:{site.port}/away?to={target}", **LOCAL)
    assert not outcome.success
    assert site.seen == ["GET /away"]


@pytest.mark.parametrize(
    "target", ["file:///etc/passwd", "ftp://example.com/x", "gopher://127.0.0.1:70/", "data:text/plain,x"]
)
async def test_only_http_is_spoken(site: _Site, fetch: Fetch, target: str) -> None:
    assert "Only http and https" in (await fetch(target)).content
    outcome = await fetch(f"http://localhost:{site.port}/away?to={target}", **LOCAL)
    assert "Only http and https" in outcome.content


@pytest.mark.parametrize(
    "url", ["", "nonsense", "http://", "http://[::1", "http://a b/", "//x", "http:///x", "http://x:99999/"]
)
async def test_what_is_no_address_is_an_outcome(fetch: Fetch, url: str) -> None:
    outcome = await fetch(url, timeout=5.0)
    assert not outcome.success
    assert outcome.stack_trace is None


async def test_credentials_in_an_address_are_not_sent(site: _Site, fetch: Fetch) -> None:
    outcome = await fetch(f"http://user:secret@localhost:{site.port}/headers", **LOCAL)
    assert "Authorization" not in outcome.content


class _Names(AbstractResolver):
    """A name server that changes its mind: the answers in turn, the last one for ever."""

    def __init__(self, answers: list[list[str]], asked: list[str]) -> None:
        self._answers = answers
        self._asked = asked

    async def resolve(self, host: str, port: int = 0, family: int = socket.AF_INET) -> list[ResolveResult]:
        self._asked.append(host)
        addresses = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        return [
            ResolveResult(
                hostname=host, host=address, port=port, family=socket.AF_INET, proto=0, flags=socket.AI_NUMERICHOST
            )
            for address in addresses
        ]

    async def close(self) -> None: ...


async def test_the_connection_goes_to_the_address_that_was_checked(site: _Site, fetch: Fetch) -> None:
    asked: list[str] = []
    # TEST-NET would be refused as well: a public address that drops packets is what a first answer looks like.
    names = _Names([["8.8.8.8"], ["127.0.0.1"]], asked)
    outcome = await fetch(f"http://rebind.example:{site.port}/secret", names=lambda: names, timeout=0.5)
    assert not outcome.success
    assert asked == ["rebind.example"]
    assert site.seen == []


@pytest.mark.parametrize("answer", [["127.0.0.1"], ["8.8.8.8", "127.0.0.1"], ["169.254.169.254"]])
async def test_a_name_with_any_private_address_is_refused(site: _Site, fetch: Fetch, answer: list[str]) -> None:
    outcome = await fetch(f"http://innocent.example:{site.port}/secret", names=lambda: _Names([answer], []))
    assert "not public" in outcome.content
    assert site.seen == []


async def test_private_addresses_can_be_allowed(site: _Site, fetch: Fetch) -> None:
    assert (await fetch(f"http://127.0.0.1:{site.port}/json", allow_private=True)).success
    assert (await fetch(f"http://127.0.0.1:{site.port}/json", private_hosts=["127.0.0.1"])).success


async def test_hosts_can_be_limited(site: _Site, fetch: Fetch) -> None:
    options: dict[str, Any] = {"hosts": ["*.example.com", "localhost"], "private_hosts": ["localhost", "127.0.0.1"]}
    assert (await fetch(f"http://localhost:{site.port}/json", **options)).success
    for url in (f"http://127.0.0.1:{site.port}/json", "http://example.com/", "http://badexample.com/"):
        assert "not among those" in (await fetch(url, **options)).content
    redirected = await fetch(f"http://localhost:{site.port}/away?to=http://127.0.0.1:{site.port}/json", **options)
    assert "not among those" in redirected.content


async def test_cancelling_closes_the_connection(site: _Site, fetch: Fetch) -> None:
    task = asyncio.create_task(fetch(f"http://localhost:{site.port}/slow", **LOCAL))
    async with asyncio.timeout(5):
        while not site.seen:
            await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
