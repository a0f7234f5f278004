"""Addresses, listening sockets, TLS contexts, and accepting connections.

This package parses the values of ``--bind``, opens or inherits sockets, manages the files of unix
sockets, accepts connections, and closes listening sockets without losing a connection. HTTP,
options and worker processes do not belong here.
"""
