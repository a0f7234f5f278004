"""Addresses, listening sockets, TLS contexts, and accepting connections.

Here are the values that ``--bind`` accepts, the sockets that are opened or inherited for them, the
files of unix sockets, and how listening sockets are closed without losing a connection that the
kernel has already completed. HTTP, options and worker processes do not belong here.
"""
