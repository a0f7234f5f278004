"""Who the client is behind reverse proxies.

Parsers for X-Forwarded-* and Forwarded (RFC 7239), the networks of trusted proxies, and the PROXY
protocol. Pure functions: bytes and addresses in, facts out. Reading from sockets does not belong
here.
"""
