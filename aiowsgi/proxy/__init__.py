"""The client's address, scheme and host behind reverse proxies.

Parsers of X-Forwarded-* and Forwarded (RFC 7239), the list of trusted proxies, and a parser of the
PROXY protocol. These are pure functions: bytes and addresses in, facts out. Reading from sockets
does not belong here.
"""
