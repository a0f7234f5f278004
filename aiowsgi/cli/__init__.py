"""The command line: takes arguments, returns an exit status; ``aiowsgi top`` and ``migrate``.

Option types and defaults belong to ``config``, importing applications to ``wsgi``. What a command
does beyond reading and printing belongs to the package that it calls.
"""
