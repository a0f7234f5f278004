"""A chat with Flask-SocketIO, in its threading mode with the WebSocket transport.

Run it with ``aiowsgi --app-dir examples --threads 16 flask_socketio_chat``, and open it in two
browser windows. With several workers, clients of one chat are in different processes: Socket.IO
then needs a message queue, and the proxy must send a client to the same worker each time.
"""

from flask import Flask
from flask_socketio import SocketIO, emit
from shared import chat_page

# What Socket.IO's own client does, as far as this page needs it: Engine.IO 4 numbers its packets
# (0 open, 2 ping, 3 pong, 4 message), Socket.IO those within (0 connect, 2 event).
SCRIPT = """
const socket = new WebSocket(address + "/socket.io/?EIO=4&transport=websocket");
socket.onmessage = ({data}) => {
  if (data[0] === "0") socket.send("40");
  else if (data === "2") socket.send("3");
  else if (data.startsWith("40")) ready();
  else if (data.startsWith("42")) show(JSON.parse(data.slice(2))[1]);
};
function send(text) { socket.send("42" + JSON.stringify(["say", text])); }
"""

app = Flask(__name__)
# Only this page may connect; name other origins in cors_allowed_origins.
socketio = SocketIO(app, async_mode="threading", transports=["websocket"])


@app.get("/")
def index():
    """The page with the chat."""
    return chat_page(SCRIPT)


@socketio.on("say")
def say(text):
    """Send whatever a client says to all clients."""
    emit("said", text, broadcast=True)
