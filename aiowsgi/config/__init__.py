"""The server's options: names, types, defaults, and the sources of their values.

Each option is one field of ``Config``. The command line's flags, the environment variables, the
TOML keys and the help text are derived from that field. Code that acts on an option does not belong
here.
"""
