"""The options of the server: their names, types, defaults, and where their values come from.

Every option is one field of ``Config``; the command line's flags, environment variables, TOML keys
and the help text are derived from it. Acting on an option does not belong here.
"""
