"""The Flask application under load: what a small JSON endpoint costs with a framework in it."""

from __future__ import annotations

from flask import Flask, Response, jsonify, request

app = Flask(__name__)


@app.route("/", defaults={"path": ""})
@app.route("/<path:path>")
def item(path: str) -> Response:
    """Answer any path with a JSON object drawn from the request, as an API would."""
    return jsonify(
        path=path,
        page=request.args.get("page", 1, type=int),
        agent=request.headers.get("User-Agent", ""),
        items=[{"id": number, "name": f"item {number}", "stock": 7} for number in range(5)],
    )
