"""What the admin endpoint shows, made of overviews that the test gives."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import re
from html.parser import HTMLParser

import pytest
from status_samples import REQUEST, STACK, a_report
from support import PATIENCE

from aiowsgi.admin import pages as admin_pages
from aiowsgi.admin.pages import page, pages
from aiowsgi.admin.server import Feed
from aiowsgi.http1.messages import Request
from aiowsgi.status.aggregate import Detail, ServerFacts, WorkerReport, overview


def asked(**fields):
    """A request with these fields."""
    lines = [(name.encode(), value.encode()) for name, value in fields.items()]
    return Request("GET", "/", "/", "", "localhost", "HTTP/1.1", lines, 0, True, False)


class Look:
    """Gives overviews, and counts how often it was asked."""

    def __init__(self):
        self.times = 0
        self.may_answer = asyncio.Event()
        self.may_answer.set()

    async def __call__(self, interest=Detail.FIGURES):
        self.times += 1
        await self.may_answer.wait()
        report = {
            **a_report(),
            "requests": [REQUEST],
            "stacks": [STACK] if interest is Detail.STACKS else [],
        }
        return overview(ServerFacts(float(self.times), 1.0), [WorkerReport(7, 1, "ready", report)])


@pytest.fixture
def look():
    """Where overviews come from."""
    return Look()


async def test_status(look):
    """The whole overview, for programs."""
    answer = await pages(look)["/status.json"](asked())
    assert answer.content_type == "application/json"
    assert json.loads(answer.body)["threads"] == {"busy": 2, "idle": 5, "detached": 1}


async def test_requests(look):
    """Those in flight."""
    answer = await pages(look)["/requests"](asked())
    assert json.loads(answer.body) == [REQUEST]


async def test_stacks(look):
    """For people and for programs; nobody else has the stacks looked up."""
    answer = await pages(look)["/stacks"](asked())
    assert answer.body.startswith(
        "GET /reports/yearly HTTP/1.1\naiowsgi-worker-1 of worker 7, 12.000 s, request r1\n"
    )
    assert "in yearly" in answer.body
    assert json.loads((await pages(look)["/stacks.json"](asked())).body) == [STACK]


async def test_no_stacks():
    """That there are none is said."""

    async def idle(interest=Detail.FIGURES):
        return overview(ServerFacts(1.0, 1.0), [])

    assert (await pages(idle)["/stacks"](asked())).body == "No thread is busy.\n"


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        ("application/openmetrics-text;version=1.0.0;q=0.5,text/plain", "application/openmetrics"),
        ("text/plain", "text/plain; version=0.0.4"),
        ("*/*", "text/plain; version=0.0.4"),
    ],
)
async def test_metrics(look, accept, content_type):
    """OpenMetrics for who asks for it."""
    answer = await pages(look)["/metrics"](asked(Accept=accept))
    assert answer.content_type.startswith(content_type)
    assert answer.body.endswith("# EOF\n") is content_type.startswith("application")
    assert "aiowsgi_queue_depth 6\n" in answer.body


async def first(feed):
    """The next event of a feed, read as a browser does."""
    async with asyncio.timeout(PATIENCE):
        event = await anext(feed.events)
    field, _, data = event.partition(": ")
    assert field == "data"
    assert event.endswith("\n\n")
    assert event.count("\n") == 2
    return json.loads(data)


async def test_events(look, monkeypatch):
    """One overview after the other, for as long as somebody listens."""
    monkeypatch.setattr(admin_pages, "PERIOD", 0.01)
    feed = pages(look)["/events"](asked())
    assert isinstance(feed, Feed)
    assert look.times == 0
    assert [(await first(feed))["time"] for _ in range(3)] == [1.0, 2.0, 3.0]
    await feed.events.aclose()
    assert look.times == 3


async def test_all_listeners_share_one_look(look):
    """However many watch, workers are asked once; that one goes does not disturb the others."""
    handler = pages(look)["/events"]
    look.may_answer.clear()
    listeners = [asyncio.create_task(first(handler(asked()))) for _ in range(3)]
    while not look.times:  # noqa: ASYNC110
        await asyncio.sleep(0)
    listeners.pop().cancel()
    look.may_answer.set()
    assert [each["time"] for each in await asyncio.gather(*listeners)] == [1.0, 1.0]
    assert look.times == 1


# Pages


class Elements(HTMLParser):
    """Collects what an HTML document is made of."""

    def __init__(self, text):
        super().__init__()
        self.attributes = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        """Note the attributes."""
        self.attributes += [(tag, name, value or "") for name, value in attrs]


@pytest.mark.parametrize("name", ["live.html", "login.html"])
def test_a_page_needs_nobody_else(name):
    """No attribute leads elsewhere, and none holds a script or a style."""
    for tag, attribute, value in Elements(page(name).body).attributes:
        assert attribute != "style", tag
        assert not attribute.startswith("on"), tag
        if attribute in {"href", "src"}:
            assert re.match(r"[/#][a-z]|data:image/svg|/metrics", value), value


@pytest.mark.parametrize("name", ["live.html", "login.html"])
def test_a_policy_allows_just_what_is_in_the_page(name):
    """Each script and style by its hash, and nothing that is inserted."""
    answer = page(name)
    policy = dict(answer.fields)["Content-Security-Policy"]
    directives = dict(part.strip().split(" ", 1) for part in policy.split(";"))
    assert directives["default-src"] == directives["base-uri"] == "'none'"
    for element, directive in (("script", "script-src"), ("style", "style-src")):
        bodies = re.findall(f"<{element}[^>]*>(.*?)</{element}>", answer.body, re.DOTALL)
        digests = [base64.b64encode(hashlib.sha256(body.encode()).digest()) for body in bodies]
        assert directives[directive].split() == [f"'sha256-{d.decode()}'" for d in digests]


def test_a_script_puts_no_text_into_the_page_as_markup():
    """What clients have chosen becomes text only."""
    script = page("live.html").body
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(", script)


async def test_the_page_is_at_the_root(look):
    """And nobody is asked for it."""
    assert pages(look)["/"](asked()) is page("live.html")
    assert look.times == 0
