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

from aiowsgi.admin import history as admin_history
from aiowsgi.admin.history import StatusHistory
from aiowsgi.admin.pages import page
from aiowsgi.admin.pages import pages as make_pages
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
    """Where the status comes from."""
    return Look()


def pages(look, history=None):
    """The handlers; their history samples only if the test has it run."""
    return make_pages(look, history or StatusHistory(look))


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
        "1 request at shop.py:3 yearly `with lock:`\n"
        "  12 s  GET /reports/yearly HTTP/1.1  id r1, aiowsgi-thread-1 of worker 7\n"
    )
    assert "in yearly" in answer.body
    assert "threading.py" not in answer.body
    everything = await pages(look)["/stacks"](asked()._replace(query="all"))
    assert "threading.py" in everything.body
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


@pytest.fixture
async def history(look, monkeypatch):
    """A history that samples all the time."""
    monkeypatch.setattr(admin_history, "PERIOD", 0.001)
    history = StatusHistory(look)
    task = asyncio.create_task(history.run())
    yield history
    task.cancel()


async def test_events(look, history):
    """The last sample and each one after it."""
    feed = pages(look, history)["/events"](asked())
    assert isinstance(feed, Feed)
    times = [(await first(feed))["time"] for _ in range(3)]
    assert times == sorted(set(times))
    await feed.events.aclose()


async def test_all_feeds_share_the_samples(look, history):
    """However many pages are open, the workers are asked once for each sample."""
    handler = pages(look, history)["/events"]
    feeds = [handler(asked()) for _ in range(5)]
    await asyncio.gather(*map(first, feeds))
    before = look.times
    rounds = [await asyncio.gather(*map(first, feeds)) for _ in range(3)]
    assert look.times - before <= rounds[-1][0]["time"]
    assert all(len({each["time"] for each in seen}) == 1 for seen in rounds)


async def test_history(look, history):
    """For the page, which plots it."""
    await history.latest()
    await history.next()
    told = json.loads(pages(look, history)["/history.json"](asked()).body)
    assert told["names"] == list(admin_history.POINT)
    assert len(told["points"]) >= 2
    assert all(len(point) == len(told["names"]) for point in told["points"])


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
