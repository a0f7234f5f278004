"""A chat over WebSocket with Flask-Sock.

Run it with ``aiowsgi --app-dir examples --threads 16 flask_sock_chat``, and open it in two browser
windows. Each open window holds one of the threads; see ``--max-upgraded``.
"""

from contextlib import suppress
from threading import Lock

from flask import Flask
from flask_sock import ConnectionClosed, Sock
from shared import chat_page

SCRIPT = """
const socket = new WebSocket(address + "/chat");
socket.onopen = ready;
socket.onmessage = event => show(event.data);
function send(text) { socket.send(text); }
"""

app = Flask(__name__)
# A client that has gone without a word is noticed by the next ping.
app.config["SOCK_SERVER_OPTIONS"] = {"ping_interval": 25}
sock = Sock(app)

clients = set()
lock = Lock()


@app.get("/")
def index():
    """The page with the chat."""
    return chat_page(SCRIPT)


@sock.route("/chat")
def chat(socket):
    """Send whatever a client says to all clients, until it closes."""
    with lock:
        clients.add(socket)
    try:
        while True:
            tell_all(socket.receive())
    finally:
        with lock:
            clients.discard(socket)


def tell_all(text):
    """Send a message to every client. The lock keeps two messages on one socket apart."""
    with lock:
        for client in clients:
            with suppress(ConnectionClosed, OSError):
                client.send(text)
