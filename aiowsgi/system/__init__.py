"""What the process is to the machine that runs it.

Users and groups, the pid file, processors, memory, descriptors, the service manager, and the choice
of the event loop. Nothing here knows HTTP, WSGI or this server's options: callers pass plain
values.
"""
