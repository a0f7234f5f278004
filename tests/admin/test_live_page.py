"""The live view in a browser, before servers that run: headless Chromium, driven by playwright."""

from __future__ import annotations

import re
from contextlib import ExitStack

import pytest
import requests
from processes import serving
from support import PATIENCE
from tools import needs_tool, tool

sync_api = pytest.importorskip("playwright.sync_api")
expect = sync_api.expect

pytestmark = [needs_tool("chromium"), pytest.mark.slow("processes", "chromium")]

ALONE = (
    *("--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"),
    *("--disable-background-networking", "--disable-component-update", "--no-first-run"),
)
"""So that the browser runs in a container, and asks nobody but us."""

APPLICATION = """\
import threading

gate = threading.Event()

def stand_here():
    gate.wait(60)

def app(environ, start_response):
    if environ["PATH_INFO"].startswith("/stuck"):
        stand_here()
    if environ["PATH_INFO"] == "/free":
        gate.set()
    start_response("200 OK", [("Content-Length", "2")])
    return [b"ok"]
"""

TOKEN = "correct-horse-battery"


@pytest.fixture(scope="module")
def chromium():
    """The browser."""
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=tool("chromium"), args=list(ALONE))
        yield browser
        browser.close()


class Served:
    """A server, its endpoint, and the requests that the test has made."""

    def __init__(self, stack, folder, *options):
        (folder / "stuck.py").write_text(APPLICATION)
        arguments = ("--app-dir", str(folder), "stuck:app", "--threads", "2", *options)
        self.program, self.url = stack.enter_context(
            serving("--admin", "127.0.0.1:0", "--no-access-log", *arguments)
        )
        said = "\n".join(self.program.lines)
        self.admin = re.search(r"endpoint is at (\S+)", said)[1]
        self._stack = stack

    def get(self, path):
        """Ask, and wait for the answer."""
        return requests.get(self.url + path, timeout=PATIENCE, proxies={"http": ""})

    def leave_waiting(self, path):
        """Ask, and do not wait for the answer."""
        import socket

        host, port = self.url.removeprefix("http://").split(":")
        sock = self._stack.enter_context(socket.create_connection((host, int(port))))
        sock.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())


@pytest.fixture
def start(tmp_path):
    """Start servers: ``served = start(*options)``."""
    with ExitStack() as stack:
        yield lambda *options: Served(stack, tmp_path, *options)


class View:
    """The page, and what its console says."""

    def __init__(self, browser, **context):
        self.context = browser.new_context(**context)
        self.page = self.context.new_page()
        self.page.set_default_timeout(PATIENCE * 1000)
        self.complaints = []
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("console", self._note)
        self.foreign = []
        self.page.on("request", lambda request: self.foreign.append(request.url))

    def _note(self, message):
        if message.type in {"error", "warning"}:
            self.complaints.append(message.text)


@pytest.fixture
def view(chromium):
    """Open the page: ``page = view(url)``. It must not complain, nor ask anybody else."""
    views = []

    def open_(url, **context):
        views.append((url, view := View(chromium, **context)))
        view.page.goto(url)
        return view.page

    yield open_
    for url, view in views:
        view.context.close()
        assert [each for each in view.foreign if not each.startswith((url, "data:"))] == []
        # What the browser says of answers that the test brought about.
        assert [each for each in view.complaints if "401" not in each] == []


THEMES = [
    {"color_scheme": "light", "viewport": {"width": 1280, "height": 800}},
    {"color_scheme": "dark", "viewport": {"width": 390, "height": 800}, "has_touch": True},
]


@pytest.mark.parametrize("context", THEMES, ids=["light", "dark-phone"])
def test_a_stuck_request_shows_its_stack(start, view, context):
    """Within two seconds it is in the table, and a click tells where its thread stands."""
    served = start()
    page = view(served.admin, **context)
    expect(page.locator("#pill")).to_have_text("ready")
    served.leave_waiting("/stuck?<script>alert(1)</script>")
    row = page.get_by_role("button", name="/stuck")
    expect(row).to_be_visible(timeout=2000)
    expect(page.locator(".phase[data-is=application]")).to_be_visible()
    row.click()
    stack = page.locator("pre")
    expect(stack).to_contain_text("in stand_here")
    assert "gate.wait(60)" in page.locator("pre .last").inner_text()
    assert row.get_attribute("aria-expanded") == "true"
    # Nothing is wider than the window.
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    served.get("/free")
    expect(page.locator("tr.over")).to_contain_text("ended")
    expect(stack).to_contain_text("in stand_here")


def test_by_keyboard(start, view):
    """The stack opens and closes without a mouse, and the focus stays where one was."""
    served = start()
    page = view(served.admin)
    served.leave_waiting("/stuck")
    row = page.get_by_role("button", name="/stuck")
    expect(row).to_be_visible()
    page.keyboard.press("Tab")
    expect(page.locator(".skip")).to_be_focused()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    expect(page.locator("#older")).to_be_focused()
    page.keyboard.press("Tab")
    expect(row).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("pre")).to_contain_text("in stand_here")
    # Some overviews later the focus is where it was.
    age = page.locator("td.age").inner_text()
    expect(page.locator("td.age")).not_to_have_text(age)
    expect(row).to_be_focused()
    page.keyboard.press("Tab")
    page.keyboard.press("Escape")
    expect(page.locator("pre")).to_have_count(0)
    expect(row).to_be_focused()


def test_figures(start, view):
    """Rate, latencies, threads and workers are those of the server."""
    served = start("--workers", "2")
    page = view(served.admin)
    expect(page.locator("#worker-rows tr")).to_have_count(2)
    served.leave_waiting("/stuck")
    expect(page.locator("#tiles")).to_contain_text("of 4 busy")
    for _ in range(20):
        served.get("/")
    expect(page.locator("#totals")).to_contain_text("20 responses")
    plot = page.get_by_role("img", name=re.compile("^Latency, now: p50 .* p99 "))
    expect(plot).to_be_visible()
    tile = page.locator(".tile").first
    tile.locator(".plot").focus()
    page.keyboard.press("ArrowLeft")
    expect(tile).to_contain_text("ago, pointed at")
    expect(page.locator("#said")).to_contain_text("Requests a second, ")
    page.keyboard.press("Tab")
    expect(tile).not_to_contain_text("pointed at")


def test_what_is_young_is_hidden_until_asked_for(start, view):
    """Of fast requests only the number is shown."""
    served = start()
    page = view(served.admin)
    page.locator("#older").select_option("10")
    served.leave_waiting("/stuck")
    expect(page.locator("#requests-note")).to_have_text("1 request, 1 of them not shown")
    expect(page.locator("#no-rows")).to_have_text("None that old.")
    page.locator("#older").select_option("0")
    expect(page.get_by_role("button", name="/stuck")).to_be_visible()


def test_unready(start, view):
    """A server that drains is red, says why, and says it to who cannot see."""
    served = start("--shutdown-delay", "30")
    page = view(served.admin)
    expect(page.locator("#said")).to_have_text("Ready.")
    assert page.locator("#unready").is_hidden()
    served.program.process.terminate()
    expect(page.locator("#unready")).to_contain_text("Not ready: draining")
    assert page.locator("#unready").get_attribute("role") == "alert"
    red, green, blue = map(
        int,
        re.findall(
            r"\d+", page.locator("#unready").evaluate("e => getComputedStyle(e).backgroundColor")
        )[:3],
    )
    assert red > 2 * max(green, blue)
    expect(page.locator("#pill")).to_have_text("not ready")
    expect(page.locator("#said")).to_have_text("Not ready: draining.")
    assert page.title().startswith("✗ not ready")


def test_a_worker_that_is_held_up(start, view):
    """It says why, beside its state, and so does the whole where there is no other."""
    served = start("--threads", "1", "--queue-timeout", "4")
    page = view(served.admin)
    expect(page.locator("#pill")).to_have_text("ready")
    served.leave_waiting("/stuck")
    expect(page.locator("#tiles")).to_contain_text("of 1 busy")
    served.leave_waiting("/free")
    why = "a request has waited more than 2 s for a thread"
    expect(page.locator("#unready")).to_contain_text(f"Not ready: {why}")
    expect(page.locator("#worker-rows")).to_contain_text(f"unready {why}")
    # It is refused then, but the thread is as busy as before.
    expect(page.locator("#pill")).to_have_text("saturated")
    expect(page.locator("#saturated")).to_be_visible()
    expect(page.locator("td.where")).to_contain_text("stuck.py:6 stand_here")
    served.program.expect("no thread has been free for")
    expect(page.locator("#unready")).to_contain_text("all 1 threads have been busy")


def test_pause(start, view):
    """What changes by itself can be made to stop."""
    served = start()
    page = view(served.admin)
    expect(page.locator("#pill")).to_have_text("ready")
    page.get_by_role("button", name="Pause").click()
    served.leave_waiting("/stuck")
    while not page.evaluate("past[past.length - 1].busy"):
        page.wait_for_timeout(50)
    assert page.locator("#rows tr").count() == 0
    page.get_by_role("button", name="Go on").click()
    expect(page.get_by_role("button", name="/stuck")).to_be_visible()


def test_no_news(start, chromium):
    """When the server has gone, the page says that what it shows is old."""
    served = start()
    view = View(chromium)
    view.page.goto(served.admin)
    expect(view.page.locator("#pill")).to_have_text("ready")
    served.program.process.kill()
    expect(view.page.locator("#lost")).to_contain_text("No news since")
    expect(view.page.locator("#pill")).to_have_text("no news")
    view.context.close()


def test_token(start, view, tmp_path):
    """The form opens for the right token and for no other; the address stays clean."""
    (tmp_path / "token").write_text(TOKEN)
    served = start("--admin-token-file", str(tmp_path / "token"))
    page = view(served.admin)
    field = page.get_by_label("Token", exact=True)
    expect(field).to_be_focused()
    field.fill("a-wrong-horse-battery")
    page.get_by_role("button", name="Open").click()
    expect(page.get_by_role("alert")).to_have_text("That is not the token.")
    field.fill(TOKEN)
    page.keyboard.press("Enter")
    expect(page.locator("#pill")).to_have_text("ready")
    assert page.url == f"{served.admin}/"


def test_token_in_the_address(start, view, tmp_path):
    """A link with the token opens, and leaves none of it behind."""
    (tmp_path / "token").write_text(TOKEN)
    served = start("--admin-token-file", str(tmp_path / "token"))
    page = view(served.admin)
    page.goto(f"{served.admin}/?token={TOKEN}")
    expect(page.locator("#pill")).to_have_text("ready")
    assert page.url == f"{served.admin}/"
