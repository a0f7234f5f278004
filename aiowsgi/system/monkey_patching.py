"""Whether gevent or eventlet have replaced the parts of Python that threads are made of.

After ``gevent.monkey.patch_all()`` a thread is a greenlet, and a lock that it waits for switches to
another greenlet of the same thread. The event loop and the worker threads of this server need real
ones: connections would be accepted, and never answered.
"""

from __future__ import annotations

import sys

from aiowsgi.exceptions import ApplicationLoadError

__all__ = ["refuse_monkey_patching"]


def refuse_monkey_patching() -> None:
    """Raise ApplicationLoadError if this process's threads are not threads any more."""
    if library := _patched_by():
        raise ApplicationLoadError(
            f"{library} has replaced Python's threads (monkey patching), which this server needs:"
            f" remove the patch, or use a server for {library}"
        )


def _patched_by() -> str:
    # Nothing is imported: whoever has patched has imported it.
    gevent = sys.modules.get("gevent.monkey")
    if gevent is not None and gevent.is_module_patched("threading"):
        return "gevent"
    eventlet = sys.modules.get("eventlet.patcher")
    if eventlet is not None and eventlet.is_monkey_patched("thread"):
        return "eventlet"
    return ""
