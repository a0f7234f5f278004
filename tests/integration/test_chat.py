"""The chats of ``examples/``, over connections that the application has taken: WebSocket clients of
Python, and two windows of a browser."""

from __future__ import annotations

import json
from contextlib import ExitStack

import pytest
from processes import serving
from support import PATIENCE
from tools import needs_tool, tool

simple_websocket = pytest.importorskip("simple_websocket")
pytest.importorskip("flask_sock")
pytest.importorskip("flask_socketio")

pytestmark = pytest.mark.slow("processes")

NAMES = ("flask_sock_chat", "flask_socketio_chat")


@pytest.fixture(params=NAMES)
def served(request):
    """Each chat, and its name."""
    with serving("--app-dir", "examples", "--threads", "6", request.param) as (program, url):
        yield program, url, request.param


class WebSocket(simple_websocket.Client):
    """The library's client, which forgets messages that come together with the 101."""

    def handshake(self):
        super().handshake()
        self._handle_events()


class Plain:
    """A client of the chat over bare WebSocket."""

    def __init__(self, url):
        self._socket = WebSocket(f"{url.replace('http', 'ws')}/chat")

    def say(self, text):
        self._socket.send(text)

    def hear(self):
        return self._socket.receive(PATIENCE)

    def close(self):
        self._socket.close()


class SocketIO(Plain):
    """A client that speaks Socket.IO, as far as the chat needs it."""

    def __init__(self, url):
        address = f"{url.replace('http', 'ws')}/socket.io/?EIO=4&transport=websocket"
        self._socket = WebSocket(address)
        assert self._socket.receive(PATIENCE).startswith("0{")
        self._socket.send("40")
        assert self._socket.receive(PATIENCE).startswith("40")

    def say(self, text):
        self._socket.send(f"42{json.dumps(['say', text])}")

    def hear(self):
        return json.loads(self._socket.receive(PATIENCE)[2:])[1]


CLIENTS = dict(zip(NAMES, (Plain, SocketIO), strict=True))


def test_clients_of_a_chat(served):
    """What one says all hear, in order; one that closes ends nothing for the others."""
    program, url, name = served
    with ExitStack() as closing:
        clients = []
        for number in range(4):
            clients.append(CLIENTS[name](url))
            if number:
                closing.callback(clients[-1].close)
            # A client that hears itself has joined, which it has not at once when it is connected.
            clients[-1].say(f"joined {number}")
            assert {client.hear() for client in clients} == {f"joined {number}"}
        for number in range(20):
            clients[number % 4].say(f"message {number}")
            assert {client.hear() for client in clients} == {f"message {number}"}
        clients[0].close()
        clients[1].say("still there")
        assert {client.hear() for client in clients[1:]} == {"still there"}
    assert program.stop() == 0
    assert not [line for line in program.lines if "ERROR" in line or "Traceback" in line]


def test_a_stop_ends_the_chat(served):
    """A server that is told to stop does not wait until the clients have had enough."""
    program, url, name = served
    client = CLIENTS[name](url)
    client.say("hello")
    assert client.hear() == "hello"
    assert program.stop() == 0
    with pytest.raises(simple_websocket.ConnectionClosed):
        client._socket.receive(PATIENCE)


@needs_tool("chromium")
@pytest.mark.slow("chromium")
def test_two_windows(served):
    """A browser speaks to another window of itself."""
    sync_api = pytest.importorskip("playwright.sync_api")
    _, url, _ = served
    arguments = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"]
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=tool("chromium"), args=arguments)
        try:
            windows = [browser.new_page() for _ in range(2)]
            for window in windows:
                window.goto(url)
            for number, window in enumerate(windows):
                window.get_by_label("Message", exact=True).fill(f"from window {number}")
                window.get_by_role("button", name="Send").click()
                for other in windows:
                    item = other.get_by_role("listitem").nth(number)
                    sync_api.expect(item).to_have_text(f"from window {number}")
        finally:
            browser.close()
