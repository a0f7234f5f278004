"""A query that ends when nobody waits for its answer any more.

Run it with ``aiowsgi --app-dir examples disconnected``, ask it with ``curl localhost:8000``, and
interrupt curl: the log says at once that the query was given up, and the thread is free.
"""

import sqlite3
from contextlib import closing, suppress

# It counts for minutes, in place of the report that somebody forgot an index for.
QUERY = """
WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers LIMIT 2000000000)
SELECT count(*) FROM numbers
"""


def app(environ, start_response):
    """Answer with the query's result, for as long as the client is there."""
    with closing(sqlite3.connect(":memory:")) as database:

        def cancel():
            # Called in a thread of the server's, which may be later than the end of the query.
            with suppress(sqlite3.ProgrammingError):
                database.interrupt()

        environ["aiowsgi.disconnected"].add_callback(cancel)
        try:
            (count,) = database.execute(QUERY).fetchone()
        except sqlite3.OperationalError as error:
            print(f"The query was given up: {error}.", file=environ["wsgi.errors"])
            start_response("503 Service Unavailable", [])
            return []
    start_response("200 OK", [("Content-Type", "text/plain; charset=utf-8")])
    return [f"{count}\n".encode()]
