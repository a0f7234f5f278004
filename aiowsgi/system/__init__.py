"""The process and the machine: users, pid file, processors, memory, descriptors, event loop.

Also the protocol of the service manager (systemd). Nothing here knows HTTP, WSGI or the server's
options: callers pass plain values.
"""
