"""The command line: flags in, an exit status out; and ``aiowsgi top``, ``requests`` and ``stacks``.

Parsing options and importing applications belong to ``config`` and ``wsgi``; what a command does
beyond printing belongs to the package that it calls.
"""
