"""What the applications of all frameworks here have in common: their page, and a check sum."""

from hashlib import sha256
from html import escape

_PAGE = """\
<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>{framework} on aiowsgi</title>
<h1>Hello, {name}!</h1>
<form action="/name" method="post">
  <input name="name" aria-label="Your name" required> <button>Greet me</button>
</form>
<form action="/upload" method="post" enctype="multipart/form-data">
  <input name="file" type="file" aria-label="File" required> <button>Upload</button>
</form>
<p><a href="/ticks">A response that takes five seconds</a>, <a href="/download">a download</a>,
<a href="/fail">an application's error</a>.</p>
</html>
"""


def page(framework, name):
    """The page in HTML; ``name`` is what the visitor gave, or nothing."""
    return _PAGE.format(framework=framework, name=escape(name or "world"))


def checked(stream):
    """The size and the SHA-256 of what can be read from a stream, in constant memory."""
    size, digest = 0, sha256()
    while block := stream.read(64 * 1024):
        size += len(block)
        digest.update(block)
    return {"size": size, "sha256": digest.hexdigest()}


_CHAT = """\
<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>A chat on aiowsgi</title>
<form><input name="text" aria-label="Message" autocomplete="off" required>
<button disabled>Send</button></form>
<ul aria-label="Messages"></ul>
<script>
const form = document.querySelector("form"), list = document.querySelector("ul");
const address = location.origin.replace("http", "ws");
function show(text) {{
  const item = document.createElement("li");
  item.textContent = text;
  list.append(item);
}}
function ready() {{ form.querySelector("button").disabled = false; }}
{script}
form.addEventListener("submit", event => {{
  event.preventDefault();
  send(form.text.value);
  form.reset();
}});
</script>
</html>
"""


def chat_page(script):
    """A page for a chat in HTML. ``script`` defines send(), and calls ready() and show()."""
    return _CHAT.format(script=script)
