"""aiowsgi as a part of another program.

``python examples/embed.py`` serves in a running event loop, beside other tasks, on threads of the
program's own; ``python examples/embed.py --blocking`` leaves loop and signals to aiowsgi.
"""

import argparse
import asyncio
import signal
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime

import aiowsgi


def app(environ, start_response):
    """Any WSGI application."""
    start_response("200 OK", [("Content-Type", "text/plain; charset=utf-8")])
    return [b"Hello from within!\n"]


def blocking(bind):
    """Serve until INT or TERM; returns the exit status."""
    return aiowsgi.serve(app, bind=bind, threads=8)


async def beside_other_tasks(bind):
    """Serve in this loop until INT or TERM, which are the program's own to handle."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    with ThreadPoolExecutor(8, "web") as executor:
        config = aiowsgi.Config(bind=bind)
        async with aiowsgi.Server(app, config, executor=executor) as server:
            print(f"serving {server.url}", flush=True)
            async with await asyncio.start_server(daytime, "127.0.0.1", 0):
                await stop.wait()
    return 0


async def daytime(_, writer):
    """Tell the time (RFC 867): what else the program does in the same loop."""
    writer.write(f"{datetime.now():%c}\r\n".encode())
    await writer.drain()
    writer.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bind", default="127.0.0.1:8000")
    parser.add_argument("--blocking", action="store_true")
    options = parser.parse_args()
    if options.blocking:
        sys.exit(blocking(options.bind))
    sys.exit(asyncio.run(beside_other_tasks(options.bind)))
