"""RFC 9112 section 3: method, request-target and version."""

from wire.row import HIDDEN, bad, good, head, post, section

_TOKEN_EXTRAS = b"!#$%&'*+-.^_`|~"

# Methods of HTTP, of its extensions, and of protocols that look like it.
_METHODS = (
    b"GET HEAD POST PUT DELETE OPTIONS TRACE PATCH "
    b"PROPFIND PROPPATCH MKCOL COPY MOVE LOCK UNLOCK SEARCH REPORT CHECKOUT MERGE "
    b"M-SEARCH NOTIFY SUBSCRIBE UNSUBSCRIBE PURGE MKCALENDAR LINK UNLINK ACL BIND REBIND QUERY "
    b"SOURCE DESCRIBE ANNOUNCE SETUP PLAY PAUSE TEARDOWN GET_PARAMETER RECORD FLUSH REDIRECT "
    b"PRI BREW get Get G X-1"
).split()

ROWS = [
    *section(
        "RFC 9112 section 3",
        bad("only-method", b"GET\r\n\r\n"),
        bad("http-0.9", b"GET /\r\n\r\n"),
        bad("no-method", b" / HTTP/1.1\r\nHost: x\r\n\r\n"),
        bad("no-target", b"GET  HTTP/1.1\r\nHost: x\r\n\r\n"),
        bad("no-target-one-space", b"GET HTTP/1.1\r\nHost: x\r\n\r\n"),
        bad("two-spaces-before-target", b"GET  / HTTP/1.1\r\nHost: x\r\n\r\n"),
        bad("two-spaces-before-version", b"GET /  HTTP/1.1\r\nHost: x\r\n\r\n"),
        bad("trailing-space", b"GET / HTTP/1.1 \r\nHost: x\r\n\r\n"),
        bad("trailing-tab", b"GET / HTTP/1.1\t\r\nHost: x\r\n\r\n"),
        bad("trailing-word", b"GET / HTTP/1.1 extra\r\nHost: x\r\n\r\n"),
        bad("tab-before-target", b"GET\t/ HTTP/1.1\r\nHost: x\r\n\r\n"),
        bad("tab-before-version", b"GET /\tHTTP/1.1\r\nHost: x\r\n\r\n"),
        bad("vt-before-target", b"GET\x0b/ HTTP/1.1\r\nHost: x\r\n\r\n"),
        bad("ff-before-version", b"GET /\x0cHTTP/1.1\r\nHost: x\r\n\r\n"),
        bad("nbsp-before-target", b"GET\xa0/ HTTP/1.1\r\nHost: x\r\n\r\n"),
        bad("us-before-version", b"GET /\x1fHTTP/1.1\r\nHost: x\r\n\r\n"),
        bad("space-in-target", b"GET /a b HTTP/1.1\r\nHost: x\r\n\r\n"),
        bad("version-in-target", b"GET /a HTTP/1.1 HTTP/1.1\r\nHost: x\r\n\r\n"),
        bad("continued", b"GET /\r\n HTTP/1.1\r\nHost: x\r\n\r\n"),
        good("longest-line", head(target=b"/" + b"a" * 8178), ("GET", "/" + "a" * 8178, "x", b"")),
        bad("line-one-too-long", head(target=b"/" + b"a" * 8179), 414),
        bad("line-too-long", head(target=b"/" + b"a" * 20000), 414),
        bad("line-too-long-unended", b"GET /" + b"a" * 20000, 414),
        bad("query-too-long", head(target=b"/?" + b"a" * 20000), 414),
        bad("method-too-long", head(method=b"A" * 20000), 414),
        bad("line-too-long-from-bad-start", b"\x16" + b"a" * 20000 + b"\r\n\r\n"),
        bad("line-too-long-bare-lf", b"GET /" + b"a" * 20000 + b" HTTP/1.1\nHost: x\n\n", 414),
    ),
    *section(
        "RFC 9112 section 3.1",
        *[
            good(f"method-{m.decode()}", head(method=m), (m.decode(), "/", "x", b""))
            for m in _METHODS
        ],
        *[
            good(f"method-with-{c:02x}", head(method=b"A%c" % c), (f"A{c:c}", "/", "x", b""))
            for c in _TOKEN_EXTRAS
        ],
        *[
            bad(f"method-with-{c:02x}", head(method=b"A%cB" % c))
            for c in b'\x00\x01\x08\x0b\x1f"(),/:;<=>?@[\\]{}\x7f\x80\xa0\xff'
        ],
        bad("method-quoted", head(method=b'"GET"')),
        bad("method-colon", b"GET: / HTTP/1.1\r\nHost: x\r\n\r\n"),
        # An origin server has no tunnels.
        bad("connect-authority", head(method=b"CONNECT", target=b"x:443"), 501),
        bad("connect-origin-form", head(method=b"CONNECT"), 501),
        bad("connect-absolute", head(method=b"CONNECT", target=b"http://x/"), 501),
        bad("connect-hides", head(method=b"CONNECT", target=b"x:443") + HIDDEN, 501),
    ),
    *section(
        "RFC 9112 section 3.2",
        bad("fragment", head(target=b"/a#b")),
        bad("fragment-empty", head(target=b"/#")),
        bad("fragment-in-query", head(target=b"/a?b#c")),
        bad("fragment-alone", head(target=b"#")),
        bad("relative", head(target=b"a/b")),
        bad("relative-dots", head(target=b"../a")),
        bad("relative-query", head(target=b"?a=b")),
        bad("backslash-first", head(target=b"\\a")),
        bad("quoted", head(target=b'"/"')),
        bad("percent-first", head(target=b"%2f")),
        *[
            bad(f"byte-{c:02x}", head(target=b"/a%cb" % c))
            for c in b"\x00\x01\x07\x08\x0b\x0c\x0e\x1b\x1f\x7f\x80\x85\xa0\xc3\xff"
        ],
        bad("utf-8", head(target="/caf\u00e9".encode())),
        bad("latin-1", head(target=b"/caf\xe9")),
        bad("query-utf-8", head(target="/?q=caf\u00e9".encode())),
    ),
    *section(
        "RFC 9112 section 3.2.1",
        *[
            good(name, head(target=target.encode()), ("GET", target, "x", b""))
            for name, target in [
                ("path", "/a/b"),
                ("query", "/a?b=c&d=e"),
                ("query-empty", "/?"),
                ("query-of-queries", "/a??b?c"),
                ("query-slashes", "/?a=/b/../c"),
                ("encoded", "/a%20b%2Fc"),
                ("encoded-nul", "/%00"),
                ("encoded-crlf", "/%0d%0aA:%20b"),
                ("encoded-utf-8", "/caf%C3%A9"),
                ("percent-alone", "/100%"),
                ("percent-not-hex", "/%zz"),
                ("dots", "/a/../b/./c"),
                ("slashes", "//a//b"),
                ("slashes-like-authority", "//evil.example/a"),
                ("colon", "/a:b"),
                ("at", "/@user"),
                ("semicolon", "/a;b=c"),
                ("looks-absolute", "/http://evil.example/"),
                ("unwise", '/{a}|^`<>"\\[]'),
                ("sub-delims", "/!$&'()*+,;="),
                ("star", "/*"),
            ]
        ],
    ),
    *section(
        "RFC 9112 section 3.2.2",
        *[
            good(name, head(target=target.encode(), host=b"x"), ("GET", target, host, b""))
            for name, target, host in [
                ("http", "http://a.example/p?q", "a.example"),
                ("https", "https://a.example/p", "a.example"),
                ("upper-case-scheme", "HTTP://a.example/", "a.example"),
                ("mixed-case-scheme", "hTTps://a.example/", "a.example"),
                ("port", "http://a.example:8080/", "a.example:8080"),
                ("port-empty", "http://a.example:/", "a.example:"),
                ("no-path", "http://a.example", "a.example"),
                ("no-path-query", "http://a.example?q", "a.example"),
                ("ipv4", "http://192.0.2.1/", "192.0.2.1"),
                ("ipv6", "http://[2001:db8::1]:80/", "[2001:db8::1]:80"),
                ("url-in-path", "http://a.example/http://b.example/", "a.example"),
                ("url-in-query", "http://a.example/?u=http://b.example/@", "a.example"),
                ("at-in-path", "http://a.example/@b.example", "a.example"),
            ]
        ],
        good(
            "without-host-at-1.0",
            b"GET http://a.example/ HTTP/1.0\r\n\r\n",
            ("GET", "http://a.example/", "a.example", b""),
            closes=True,
        ),
        # The section asks for Host all the same, and for one that is well formed.
        bad("without-host-at-1.1", head(target=b"http://a.example/", host=None)),
        bad("two-hosts", head(b"Host: y", target=b"http://a.example/")),
        bad("bad-host", head(target=b"http://a.example/", host=b"a b")),
        bad("no-slashes", head(target=b"http:a.example")),
        bad("one-slash", head(target=b"http:/a.example")),
        bad("three-slashes", head(target=b"http:///a")),
        bad("no-authority", head(target=b"http://")),
        bad("no-authority-query", head(target=b"http://?a")),
        bad("only-port", head(target=b"http://:80/")),
        bad("userinfo", head(target=b"http://user@a.example/")),
        bad("userinfo-password", head(target=b"http://user:pass@a.example/")),
        bad("userinfo-empty", head(target=b"http://@a.example/")),
        bad("userinfo-hides-host", head(target=b"http://a.example:80@b.example/")),
        bad("fragment", head(target=b"http://a.example/#f")),
        bad("backslash", head(target=b"http://a.example\\@b.example/")),
        bad("port-too-large", head(target=b"http://a.example:65536/")),
        bad("port-letters", head(target=b"http://a.example:http/")),
        bad("port-negative", head(target=b"http://a.example:-1/")),
        bad("comma", head(target=b"http://a.example,b.example/")),
        bad("ipv6-open", head(target=b"http://[::1/")),
        bad("ipv6-zone", head(target=b"http://[fe80::1%25eth0]/")),
        bad("space-encoded-badly", head(target=b"http://a%2/")),
        *[
            bad(f"scheme-{s.decode()}", head(target=s + b"://a.example/"))
            for s in [b"ftp", b"file", b"ws", b"wss", b"httpx", b"xhttp", b"gopher", b"h", b"1http"]
        ],
        bad("scheme-data", head(target=b"data:text/plain,hi")),
        bad("scheme-javascript", head(target=b"javascript:alert(1)")),
        bad("scheme-none", head(target=b"://a.example/")),
    ),
    *section(
        "RFC 9112 section 3.2.3",
        bad("authority-with-get", head(target=b"x:80")),
        bad("authority-with-post", head(method=b"POST", target=b"x.example:443")),
        bad("host-alone", head(target=b"x.example")),
        bad("ipv6-alone", head(target=b"[::1]:80")),
    ),
    *section(
        "RFC 9112 section 3.2.4",
        good("options", head(method=b"OPTIONS", target=b"*"), ("OPTIONS", "*", "x", b"")),
        good(
            "options-absolute",
            head(method=b"OPTIONS", target=b"http://a.example:8001"),
            ("OPTIONS", "http://a.example:8001", "a.example:8001", b""),
        ),
        good("options-path", head(method=b"OPTIONS"), ("OPTIONS", "/", "x", b"")),
        bad("get", head(target=b"*")),
        bad("post", head(method=b"POST", target=b"*")),
        bad("options-lower-case", head(method=b"options", target=b"*")),
        bad("two-stars", head(method=b"OPTIONS", target=b"**")),
        bad("star-query", head(method=b"OPTIONS", target=b"*?a")),
        bad("star-path", head(method=b"OPTIONS", target=b"*/a")),
    ),
    *section(
        "RFC 9112 section 2.3",
        good("1.0", head(version=b"HTTP/1.0"), closes=True),
        # RFC 9110 section 2.5: processed as the highest minor version that is implemented.
        *[
            good(f"version-{v.decode()}", head(version=b"HTTP/" + v))
            for v in [b"1.2", b"1.3", b"1.5", b"1.9"]
        ],
        good("version-1.2-close", head(b"Connection: close", version=b"HTTP/1.2"), closes=True),
        bad("version-1.2-no-host", head(host=None, version=b"HTTP/1.2")),
        good(
            "version-1.2-chunked",
            post(b"Transfer-Encoding: chunked", body=b"2\r\nhi\r\n0\r\n\r\n", version=b"HTTP/1.2"),
            ("POST", "/", "x", b"hi"),
        ),
        bad("http2-preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
        *[
            bad(f"version-{v.decode()}", head(version=b"HTTP/" + v), 505)
            for v in [b"0.9", b"0.0", b"2.0", b"2.1", b"3.0", b"5.6", b"9.9"]
        ],
        *[
            bad(f"malformed-{i}", head(version=v))
            for i, v in enumerate(
                [
                    b"HTTP/1",
                    b"HTTP/2",
                    b"HTTP/1.",
                    b"HTTP/.1",
                    b"HTTP/",
                    b"HTTP",
                    b"HTTP1.1",
                    b"HTTP/11",
                    b"HTTP/1.10",
                    b"HTTP/1.01",
                    b"HTTP/01.1",
                    b"HTTP/11.1",
                    b"HTTP/1,1",
                    b"HTTP/1:1",
                    b"HTTP/1.1.1",
                    b"HTTP/1.x",
                    b"HTTP/a.b",
                    b"HTTP/-1.1",
                    b"HTTP/+1.1",
                    b"HTTP/1. 1",
                    b"HTTP /1.1",
                    b"HTTP/ 1.1",
                    b"HTTP//1.1",
                    b"http/1.1",
                    b"Http/1.1",
                    b"HTTPS/1.1",
                    b"IHTTP/1.1",
                    b"xHTTP/1.1",
                    b"RTSP/1.0",
                    b"ICE/1.0",
                    b"SIP/2.0",
                    b"HTTP/\xb9.1",
                    b"HTTP/1.\xb9",
                    b"HTTP/1.1\x00",
                    b"HTTP/1.1;",
                ]
            )
        ],
    ),
]
