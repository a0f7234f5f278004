"""Several processes, and whatever serves blocking: ``aiowsgi.run`` and ``aiowsgi.serve``.

Starting, watching, reloading and replacing worker processes; signals; the pid file. The supervisor
serves nothing but health, and a worker's serving is in ``server``.
"""
