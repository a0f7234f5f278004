"""RFC 9112 section 2: how a message is parsed into lines."""

from wire.row import HIDDEN, SECOND, bad, good, head, section

GET = head()

ROWS = [
    *section(
        "RFC 9112 section 2.1",
        good("plain", GET),
        good("many-fields", head(*[b"X-%d: %d" % (i, i) for i in range(90)])),
        good("field-order-kept", head(b"B: 1", b"A: 2", b"B: 3")),
        good("no-fields-at-1.0", b"GET / HTTP/1.0\r\n\r\n", ("GET", "/", "", b""), closes=True),
        bad("no-request-line", b"Host: x\r\n\r\n"),
        bad("status-line", b"HTTP/1.1 200 OK\r\nHost: x\r\n\r\n"),
        bad("nonsense", b"hello, is anyone there?\r\n\r\n"),
        bad("tls-client-hello", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"),
        bad("tls-alert", b"\x15\x03\x01\x00\x02\x02\x46"),
        bad("socks5", b"\x05\x01\x00"),
        bad("proxy-v2-unasked", b"\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c"),
        bad("proxy-v1-unasked", b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n" + GET),
        bad("json-line", b'{"jsonrpc": "2.0"}\n'),
        bad("utf-8-bom", b"\xef\xbb\xbf" + GET),
        bad("utf-16", "GET / HTTP/1.1\r\n".encode("utf-16-le")),
        bad("leading-nul", b"\x00" + GET),
        bad("leading-space", b" " + GET),
        bad("leading-tab", b"\t" + GET),
    ),
    *section(
        "RFC 9112 section 2.2",
        good("one-empty-line", b"\r\n" + GET),
        good(
            "empty-line-between",
            GET + b"\r\n" + GET,
            ("GET", "/", "x", b""),
            ("GET", "/", "x", b""),
        ),
        good(
            "empty-line-behind-post",
            head(b"Content-Length: 2", method=b"POST") + b"hi\r\n",
            ("POST", "/", "x", b"hi"),
        ),
        bad("two-empty-lines", b"\r\n\r\n" + GET),
        bad("many-empty-lines", b"\r\n" * 1000),
        bad("two-empty-lines-between", GET + b"\r\n\r\n" + GET, 400, ("GET", "/", "x", b"")),
        bad("empty-line-of-lf", b"\n" + GET),
        bad("empty-line-of-cr", b"\r" + GET),
        bad("empty-line-of-cr-cr-lf", b"\r\r\n" + GET),
        bad("empty-line-then-lf", b"\r\n\n" + GET),
        bad("empty-line-with-space", b" \r\n" + GET),
        # A lone LF MAY be taken for a line end. Whoever reads it differently from the proxy in
        # front reads other requests.
        bad("bare-lf-everywhere", b"GET / HTTP/1.1\nHost: x\n\n"),
        bad("bare-lf-request-line", b"GET / HTTP/1.1\nHost: x\r\n\r\n"),
        bad("bare-lf-field-line", b"GET / HTTP/1.1\r\nHost: x\nA: b\r\n\r\n"),
        bad("bare-lf-last-field-line", b"GET / HTTP/1.1\r\nHost: x\n\r\n"),
        bad("bare-lf-empty-line", b"GET / HTTP/1.1\r\nHost: x\r\n\n"),
        bad("bare-lf-lf", b"GET / HTTP/1.1\r\nHost: x\n\n" + HIDDEN),
        bad("bare-lf-in-value", head(b"A: b\nTransfer-Encoding: chunked"), cve="CVE-2023-30589"),
        bad("bare-lf-empty-value", head(b"A:\nTransfer-Encoding: chunked")),
        bad("bare-lf-content-length", head(b"A: b\nContent-Length: 33") + HIDDEN),
        bad("bare-lf-hides-request", head(b"A: b\n\nGET /hidden HTTP/1.1")),
        # A recipient of a bare CR MUST take the element for invalid or replace it.
        bad("bare-cr-everywhere", b"GET / HTTP/1.1\rHost: x\r\r" + SECOND),
        bad("bare-cr-request-line", b"GET / HTTP/1.1\rHost: x\r\n\r\n"),
        bad("bare-cr-in-target", b"GET /a\rb HTTP/1.1\r\nHost: x\r\n\r\n"),
        bad("bare-cr-in-method", b"GE\rT / HTTP/1.1\r\nHost: x\r\n\r\n"),
        bad("bare-cr-in-name", head(b"A\rB: c")),
        bad("bare-cr-in-value", head(b"A: b\rc"), cve="CVE-2023-30589"),
        bad("bare-cr-then-field", head(b"A: \rTransfer-Encoding: chunked"), cve="CVE-2023-30589"),
        bad("bare-cr-empty-value", head(b"A:\rContent-Length: 33") + HIDDEN, cve="CVE-2024-27982"),
        bad("bare-cr-before-crlf", head(b"A: b\r")),
        bad("bare-cr-after-lf", head(b"A: b\r\n\rB: c")),
        bad("cr-cr-lf-request-line", b"GET / HTTP/1.1\r\r\nHost: x\r\n\r\n"),
        bad("cr-cr-lf-ends-section", b"GET / HTTP/1.1\r\nHost: x\r\n\r\r\n"),
        bad("cr-z-ends-section", b"GET / HTTP/1.1\r\nHost: x\r\n\rZGET /hidden HTTP/1.1\r\n\r\n"),
        bad("lf-cr", b"GET / HTTP/1.1\n\rHost: x\n\r\n\r"),
        bad("form-feed-line-end", b"GET / HTTP/1.1\r\nHost: x\x0cA: b\r\n\r\n"),
        bad("nel-line-end", b"GET / HTTP/1.1\x85Host: x\r\n\r\n"),
        # Whitespace between the request line and the first field MUST be refused or the lines
        # that begin with it be ignored.
        bad("space-before-first-field", b"GET / HTTP/1.1\r\n Host: x\r\n\r\n"),
        bad("tab-before-first-field", b"GET / HTTP/1.1\r\n\tHost: x\r\n\r\n"),
        bad("space-line-before-fields", b"GET / HTTP/1.1\r\n \r\nHost: x\r\n\r\n"),
        bad(
            "hidden-by-space", b"GET / HTTP/1.1\r\n Content-Length: 33\r\nHost: x\r\n\r\n" + HIDDEN
        ),
        bad("space-line-behind-fields", b"GET / HTTP/1.1\r\nHost: x\r\n \r\n\r\n"),
        bad("space-before-lf", b"GET / HTTP/1.1 \nHost: x\r\n\r\n"),
        bad("garbage-behind-request", GET + b"\x00\x00", 400, ("GET", "/", "x", b"")),
        bad("text-behind-request", GET + b"hello\r\n\r\n", 400, ("GET", "/", "x", b"")),
        bad(
            "body-without-length",
            head(method=b"POST") + b"a=1&b=2\r\n",
            400,
            ("POST", "/", "x", b""),
        ),
    ),
]
