"""RFC 9112 section 9, RFC 9110 sections 7.8 and 10.1: the connection and what is asked of it."""

from wire.row import HIDDEN, SECOND, bad, good, head, post, section

GET = head()
_HI = ("POST", "/", "x", b"hi")
_GET = ("GET", "/", "x", b"")
_CHUNKED_HI = b"2\r\nhi\r\n0\r\n\r\n"


def _1_0(*lines: bytes) -> bytes:
    return head(*lines, version=b"HTTP/1.0")


ROWS = [
    *section(
        "RFC 9112 section 9.3",
        good("1.1-kept", GET),
        good("1.1-close", head(b"Connection: close"), closes=True),
        good("1.1-close-case", head(b"cOnnection: CLOSE"), closes=True),
        good("1.1-close-in-list", head(b"Connection: keep-alive, close"), closes=True),
        good("1.1-close-first-in-list", head(b"Connection: close , x"), closes=True),
        good(
            "1.1-close-on-second-line",
            head(b"Connection: keep-alive", b"Connection: close"),
            closes=True,
        ),
        good(
            "1.1-close-on-first-line",
            head(b"Connection: close", b"Connection: keep-alive"),
            closes=True,
        ),
        good("1.1-close-spaces", head(b"Connection:\t close \t"), closes=True),
        good("1.1-close-empty-elements", head(b"Connection: ,,close,,"), closes=True),
        good("1.1-keep-alive", head(b"Connection: keep-alive")),
        good("1.1-keep-alive-case", head(b"Connection: Keep-Alive")),
        good("1.1-empty", head(b"Connection:")),
        good("1.1-other-option", head(b"Connection: x-other")),
        good("1.1-not-close", head(b"Connection: closed")),
        good("1.1-not-close-either", head(b"Connection: not-close, x close y")),
        good("1.1-close-quoted", head(b'Connection: "close"')),
        good("1.1-close-elsewhere", head(b"A: close", b"Proxy-Connection: close")),
        good("1.0-closes", _1_0(), closes=True),
        good("1.0-close", _1_0(b"Connection: close"), closes=True),
        good("1.0-keep-alive", _1_0(b"Connection: keep-alive")),
        good("1.0-keep-alive-case", _1_0(b"Connection: Keep-Alive")),
        good("1.0-keep-alive-in-list", _1_0(b"Connection: x, keep-alive")),
        good("1.0-keep-alive-and-close", _1_0(b"Connection: keep-alive, close"), closes=True),
        good("1.0-keep-alive-field", _1_0(b"Keep-Alive: timeout=5"), closes=True),
        good("1.0-proxy-connection", _1_0(b"Proxy-Connection: keep-alive"), closes=True),
        good(
            "close-with-body",
            post(b"Connection: close", b"Content-Length: 2", body=b"hi"),
            _HI,
            closes=True,
        ),
        good(
            "close-with-chunks",
            post(b"Connection: close", b"Transfer-Encoding: chunked", body=_CHUNKED_HI),
            _HI,
            closes=True,
        ),
        good("close-with-data-behind", head(b"Connection: close") + HIDDEN, closes=True),
        # Naming a framing field as a connection option takes nothing away from it.
        good(
            "option-names-length",
            post(b"Connection: Content-Length", b"Content-Length: 2", body=b"hi"),
            _HI,
        ),
        good(
            "option-names-coding",
            post(b"Connection: Transfer-Encoding", b"Transfer-Encoding: chunked", body=_CHUNKED_HI),
            _HI,
        ),
        good("option-names-host", head(b"Connection: Host")),
    ),
    *section(
        "RFC 9112 section 9.3.2",
        good("two", GET + GET, _GET, _GET),
        good("ten", GET * 10, *[_GET] * 10, cve="CVE-2024-41671"),
        good("post-then-get", post(b"Content-Length: 2", body=b"hi") + GET, _HI, _GET),
        good(
            "chunked-then-get",
            post(b"Transfer-Encoding: chunked", body=_CHUNKED_HI) + GET,
            _HI,
            _GET,
        ),
        good("mixed", (post(b"Content-Length: 2", body=b"hi") + GET) * 3, *[_HI, _GET] * 3),
        good("empty-lines-between", (GET + b"\r\n") * 3, *[_GET] * 3),
        bad(
            "good-then-bad",
            GET + b"GET / HTTP/1.1\r\n\r\n" + SECOND,
            400,
            _GET,
            cve="CVE-2024-49768",
        ),
        bad("good-then-short", GET + b"GET /\r\n\r\n" + SECOND, 400, _GET),
        bad(
            "good-then-bad-body",
            GET + post(b"Transfer-Encoding: chunked", body=b"x\r\n"),
            400,
            _GET,
        ),
        bad(
            "length-too-small",
            post(b"Content-Length: 1", body=b"hi\r\n"),
            400,
            ("POST", "/", "x", b"h"),
        ),
        bad(
            "chunked-then-rest",
            post(b"Transfer-Encoding: chunked", body=_CHUNKED_HI + b"0\r\n\r\n"),
            400,
            _HI,
        ),
    ),
    *section(
        "RFC 9110 section 7.8",
        good("upgrade-websocket", head(b"Connection: Upgrade", b"Upgrade: websocket")),
        good(
            "upgrade-h2c",
            head(
                b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABk"
            ),
        ),
        good("upgrade-without-option", head(b"Upgrade: websocket")),
        good("upgrade-option-alone", head(b"Connection: Upgrade")),
        good("upgrade-empty", head(b"Connection: Upgrade", b"Upgrade:")),
        good(
            "upgrade-with-body",
            post(b"Connection: Upgrade", b"Upgrade: h2c", b"Content-Length: 2", body=b"hi"),
            _HI,
        ),
        good(
            "upgrade-with-chunks",
            post(
                b"Connection: Upgrade",
                b"Upgrade: h2c",
                b"Transfer-Encoding: chunked",
                body=_CHUNKED_HI,
            ),
            _HI,
        ),
        good(
            "upgrade-and-pipelined", head(b"Connection: Upgrade", b"Upgrade: h2c") + GET, _GET, _GET
        ),
        good("upgrade-at-1.0", _1_0(b"Connection: Upgrade", b"Upgrade: websocket"), closes=True),
        good("upgrade-close", head(b"Connection: Upgrade, close", b"Upgrade: h2c"), closes=True),
    ),
    *section(
        "RFC 9110 section 10.1.1",
        good("continue", post(b"Expect: 100-continue", b"Content-Length: 2", body=b"hi"), _HI),
        good("continue-case", post(b"expect: 100-Continue", b"Content-Length: 2", body=b"hi"), _HI),
        good(
            "continue-chunked",
            post(b"Expect: 100-continue", b"Transfer-Encoding: chunked", body=_CHUNKED_HI),
            _HI,
        ),
        good("continue-without-body", head(b"Expect: 100-continue")),
        good("continue-twice", head(b"Expect: 100-continue", b"Expect: 100-continue")),
        good(
            "continue-at-1.0",
            post(b"Expect: 100-continue", b"Content-Length: 2", body=b"hi", version=b"HTTP/1.0"),
            _HI,
            closes=True,
        ),
        good("other-at-1.0", _1_0(b"Expect: the-unexpected"), closes=True),
        bad("other", head(b"Expect: the-unexpected"), 417),
        bad("empty", head(b"Expect:"), 417),
        bad("200", head(b"Expect: 200-ok"), 417),
        bad("list", head(b"Expect: 100-continue, x"), 417),
        bad("parameter", head(b"Expect: 100-continue;q=1"), 417),
        bad("one-of-two", head(b"Expect: 100-continue", b"Expect: x"), 417),
        bad("other-with-body", post(b"Expect: x", b"Content-Length: 33", body=HIDDEN), 417),
    ),
]
