"""RFC 9112 section 5 and RFC 9110 section 5: field lines."""

from wire.row import HIDDEN, bad, good, head, post, section

_TOKEN_EXTRAS = b"!#$%&'*+-.^_`|~"
_NOT_IN_NAMES = b'\x00\x01\x07\x08\x0b\x0c\x0e\x1b\x1f"(),/;<=>?@[\\]{}\x7f\x80\xa0\xe9\xff'

# RFC 9110 section 5.5: CTL characters, HTAB left out, and CR and LF that have rows of their own.
_CONTROLS = [c for c in (*range(0x20), 0x7F) if c not in b"\t\r\n"]

ROWS = [
    *section(
        "RFC 9110 section 5.1",
        *[good(f"name-with-{c:02x}", head(b"A%cB: c" % c)) for c in _TOKEN_EXTRAS],
        *[bad(f"name-with-{c:02x}", head(b"A%cB: c" % c)) for c in _NOT_IN_NAMES],
        *[bad(f"name-starts-with-{c:02x}", head(b"%cB: c" % c)) for c in _NOT_IN_NAMES],
        good("digits", head(b"123: c")),
        good("one-letter", head(b"a:b")),
        good("long-name", head(b"A" * 4000 + b": b")),
        good("underscore", head(b"X_Y: z")),
        bad("empty-name", head(b": b")),
        bad("colon-only", head(b":")),
        bad("two-colons-first", head(b"::")),
        bad("no-colon", head(b"AB")),
        bad("no-colon-last", head(b"A: b", b"CD")),
        bad("quoted-name", head(b'"A": b')),
    ),
    *section(
        "RFC 9110 section 5.5",
        *[bad(f"control-{c:02x}", head(b"A: b%cc" % c), cve="CVE-2023-47627") for c in _CONTROLS],
        *[bad(f"control-first-{c:02x}", head(b"A: %cb" % c)) for c in _CONTROLS],
        *[bad(f"control-last-{c:02x}", head(b"A: b%c" % c)) for c in _CONTROLS],
        good("tab-inside", head(b"A: b\tc")),
        good("tab-and-spaces-inside", head(b"A: b \t \t c")),
        good("obs-text", head(b"A: caf\xe9")),
        good("obs-text-c1", head(b"A: \x80\x85\xa0\xff")),
        good("utf-8", head("A: caf\u00e9 \u2603".encode())),
        good("colons", head(b"A: b:c::d")),
        good("quotes", head(b'A: "b\\"c')),
        good("all-visible", head(b"A: " + bytes(range(0x21, 0x7F)))),
        good("looks-like-field", head(b"A: Content-Length: 5")),
        good("looks-like-request", head(b"A: GET /hidden HTTP/1.1")),
        good("long-value", head(b"A: " + b"b" * 60000)),
    ),
    *section(
        "RFC 9112 section 5",
        good("empty-value", head(b"A:")),
        good("empty-value-space", head(b"A: ")),
        good("empty-value-tabs", head(b"A:\t\t")),
        good("empty-values-between", head(b"A:", b"B:", b"C: d")),
        good("no-space", head(b"A:b")),
        good("many-spaces", head(b"A:" + b" " * 1000 + b"b" + b" " * 1000)),
        good("tabs-around", head(b"A:\tb\t")),
        good("repeated", head(b"A: b", b"A: c", b"a: d")),
    ),
    *section(
        "RFC 9112 section 5.1",
        bad("space-before-colon", head(b"A : b"), cve="CVE-2019-16785"),
        bad("tab-before-colon", head(b"A\t: b")),
        bad("spaces-before-colon", head(b"A   : b")),
        bad(
            "space-before-colon-length",
            post(b"Content-Length : 33", body=HIDDEN),
            cve="CVE-2019-16785",
        ),
        bad(
            "space-before-colon-coding",
            post(b"Transfer-Encoding : chunked", body=b"0\r\n\r\n" + HIDDEN),
        ),
        bad(
            "tab-before-colon-coding",
            post(b"Transfer-Encoding\t: chunked", body=b"0\r\n\r\n" + HIDDEN),
        ),
        bad("vt-before-colon-coding", post(b"Transfer-Encoding\x0b: chunked", body=b"0\r\n\r\n")),
        bad("nul-before-colon-coding", post(b"Transfer-Encoding\x00: chunked", body=b"0\r\n\r\n")),
        bad("nbsp-before-colon-coding", post(b"Transfer-Encoding\xa0: chunked", body=b"0\r\n\r\n")),
        bad("space-in-name", head(b"A B: c")),
        bad("space-for-colon", head(b"A b")),
        bad("name-on-own-line", head(b"A", b" : b")),
    ),
    *section(
        "RFC 9112 section 5.2",
        bad("obs-fold-space", head(b"A: b", b" c")),
        bad("obs-fold-tab", head(b"A: b", b"\tc")),
        bad("obs-fold-of-first", b"GET / HTTP/1.1\r\nHost: x\r\n y\r\n\r\n"),
        bad("obs-fold-empty", head(b"A: b", b" ")),
        bad("obs-fold-empty-value", head(b"A:", b" b")),
        bad("obs-fold-length", post(b"Content-Length:", b" 33", body=HIDDEN)),
        bad("obs-fold-length-digits", post(b"Content-Length: 3", b" 3", body=HIDDEN)),
        bad(
            "obs-fold-coding", post(b"Transfer-Encoding:", b" chunked", body=b"0\r\n\r\n" + HIDDEN)
        ),
        bad("obs-fold-coding-tab", post(b"Transfer-Encoding:", b"\tchunked", body=b"0\r\n\r\n")),
        bad("obs-fold-hides-length", head(b"A: b", b" Content-Length: 33") + HIDDEN),
        bad("obs-fold-hides-coding", head(b"A: b", b"\tTransfer-Encoding: chunked") + HIDDEN),
        bad("obs-fold-of-nothing", head(b"A: b", b" ", b" ", b"C: d")),
        bad("obs-fold-vt", head(b"A: b", b"\x0bc")),
    ),
    *section(
        "RFC 6585 section 5",
        good("hundred-fields", head(*[b"A: b"] * 99)),
        bad("hundred-and-one-fields", head(*[b"A: b"] * 100), 431),
        bad("five-thousand-fields", head(*[b"A:b"] * 5000), 431),
        bad("fields-unended", head(*[b"A:b"] * 5000)[:-2], 431),
        good("section-of-64k", head(b"A: " + b"b" * (65536 - 32))),
        bad("section-one-too-large", head(b"A: " + b"b" * (65536 - 31)), 431),
        bad("section-too-large", head(b"A: " + b"b" * 200000), 431),
        bad("name-too-large", head(b"A" * 200000 + b": b"), 431),
        bad("section-unended", head(b"A: " + b"b" * 200000)[:-4], 431),
        bad("whitespace-too-large", head(b"A:" + b" " * 200000), 431),
        bad("fields-too-large", head(*[b"A: " + b"b" * 2000] * 40), 431),
    ),
]
