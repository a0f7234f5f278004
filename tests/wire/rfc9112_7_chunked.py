"""RFC 9112 section 7: the chunked transfer coding."""

from wire.row import HIDDEN, Row, bad, good, post, section

_END = b"0\r\n\r\n"
_HI = ("POST", "/", "x", b"hi")
_EMPTY = ("POST", "/", "x", b"")


def _chunked(body: bytes) -> bytes:
    return post(b"Transfer-Encoding: chunked", body=body)


def _bad(name: str, body: bytes, status: int = 400, cve: str = "") -> Row:
    """A chunked body that is refused."""
    return bad(name, _chunked(body), status, cve=cve)


def _good(name: str, body: bytes, content: bytes = b"hi") -> Row:
    """A chunked body that is read as ``content``."""
    return good(name, _chunked(body), ("POST", "/", "x", content))


_BAD_SIZES = {
    "empty": b"",
    "space-behind": b"2 ",
    "spaces-behind": b"2   ",
    "tab-behind": b"2\t",
    "space-before": b" 2",
    "tab-before": b"\t2",
    "space-inside": b"0 2",
    "plus": b"+2",
    "minus": b"-2",
    "hex-prefix": b"0x2",
    "hex-prefix-upper": b"0X2",
    "octal-prefix": b"0o2",
    "underscore": b"0_2",
    "point": b"2.0",
    "comma": b"2,2",
    "letter-g": b"g",
    "letter-behind": b"2g",
    "h-suffix": b"2h",
    "quoted": b'"2"',
    "word": b"two",
    "superscript": b"\xb2",
    "full-width": "\uff12".encode(),
    "arabic-digit": "\u0662".encode(),
    "nul-behind": b"2\x00",
    "nul-before": b"\x002",
    "vt-behind": b"2\x0b",
    "vt-before": b"\x0b2",
    "ff-behind": b"2\x0c",
    "nbsp-behind": b"2\xa0",
    "nbsp-before": b"\xa02",
    "bs-behind": b"2\x08",
    "del-behind": b"2\x7f",
    "colon": b"2:",
    "equals": b"2=1",
    "words-behind": b"2 erfrferferf",
    "seventeen-digits": b"00000000000000002",
    "2-to-64-and-2": b"10000000000000002",
    "forty-digits": b"0" * 39 + b"2",
    "five-thousand-digits": b"0" * 4999 + b"2",
}

_BAD_EXTENSIONS = {
    "empty": b";",
    "empty-then-good": b";;a",
    "good-then-empty": b";a;",
    "space-behind-name": b";a ",
    "tab-behind-name": b";a\t",
    "space-behind-value": b";a=b ",
    "space-behind-quoted": b';a="b" ',
    "space-in-name": b";a b",
    "space-in-value": b";a=b c",
    "space-behind-equals-only": b";a= ",
    "space-and-vt": b" \x0b;a",
    "space-then-bare-cr": b"; \ra",
    "space-then-bare-lf": b" \n;a",
    "only-space": b"; ",
    "no-name": b";=b",
    "no-value": b";a=",
    "two-equals": b";a==b",
    "two-values": b";a=b=c",
    "comma": b";a,b",
    "slash-in-name": b";a/b",
    "slash-in-value": b";a=b/c",
    "quote-open": b';a="b',
    "quote-only": b';a="',
    "quote-behind-token": b';a=b"c"',
    "quote-then-token": b';a="b"c',
    "quoted-name": b';"a"',
    "quote-escaped-end": b';a="b\\"',
    "quote-nul": b';a="\x00"',
    "quote-control": b';a="\x1f"',
    "quote-del": b';a="\x7f"',
    "quote-escaped-nul": b';a="\\\x00"',
    "nul": b";a\x00",
    "nul-value": b";a=\x00",
    "control": b";a=\x01",
    "vt": b";\x0ba",
    "del": b";a\x7f",
    "obs-text-in-token": b";a=\xe9",
    "bare-cr": b";a\rb",
    "bare-cr-first": b";\ra",
    "bare-cr-value": b";a=\rb",
    "bare-cr-quoted": b';a="\r"',
    "bare-cr-last": b";a\r",
    "bare-lf": b";a\n",
    "bare-lf-only": b";\n",
    "bare-lf-value": b";a=b\n",
    "bare-lf-quoted": b';a="\n"',
    "crlf-quoted": b';a="\r\n"',
    "bare-lf-hides-chunk": b";\n0\r\n\r\nxx",
}

# Advisories on servers that read the size in spite of it, or read beyond it.
_SIZE_CVES = {
    "plus": "CVE-2022-24761",
    "hex-prefix": "CVE-2022-24761",
    "minus": "CVE-2022-24801",
    "underscore": "GHSA-qppv-j76h-2rpx",
}
_EXTENSION_CVES = {
    "nul": "CVE-2022-24761",
    "bare-cr": "CVE-2022-24761",
    "bare-lf": "CVE-2024-52304",
    "bare-lf-only": "CVE-2025-55315",
    "bare-lf-value": "CVE-2025-22871",
    "bare-lf-hides-chunk": "CVE-2025-55315",
}

_GOOD_EXTENSIONS = {
    "space-before-semicolon": b" ;a",
    "tab-before-semicolon": b"\t;a",
    "space-before-name": b"; a",
    "space-around-equals": b";a = b",
    "tabs-around-equals": b";a\t=\tb",
    "space-before-quoted": b';a= "b"',
    "spaces-everywhere": b' \t ; \t a \t = \t "b" \t ; \t c \t = \t d',
    "thousand-spaces": b" " * 1000 + b";a" + b" " * 1000 + b"=" + b" " * 1000 + b"b",
}

_TRAILERS_REFUSED = [
    b"Content-Length: 2",
    b"content-length: 2",
    b"Content_Length: 2",
    b"Transfer-Encoding: chunked",
    b"TRANSFER-ENCODING: identity",
    b"Transfer_Encoding: chunked",
]

# RFC 9110 section 6.5.1 allows none of them as a trailer field. They cannot change framing, and
# every trailer field is dropped.
_TRAILERS_DROPPED = [
    b"Host: y",
    b"Connection: close",
    b"Keep-Alive: timeout=5",
    b"Upgrade: h2c",
    b"TE: trailers",
    b"Trailer: X",
    b"Expect: 100-continue",
    b"Max-Forwards: 1",
    b"Content-Type: text/html",
    b"Content-Encoding: gzip",
    b"Content-Range: bytes 0-1/2",
]

_BAD_TRAILERS = {
    "no-colon": b"AB\r\n",
    "space-before-colon": b"A : b\r\n",
    "empty-name": b": b\r\n",
    "leading-space": b" A: b\r\n",
    "leading-tab": b"\tA: b\r\n",
    "obs-fold": b"A: b\r\n c\r\n",
    "space-line": b" \r\n",
    "bare-lf": b"A: b\n",
    "bare-cr": b"A: b\rC: d\r\n",
    "cr-cr-lf": b"A: b\r\r\n",
    "nul": b"A: \x00\r\n",
    "control": b"A: \x01\r\n",
    "del": b"A: \x7f\r\n",
    "nul-in-name": b"A\x00: b\r\n",
    "obs-text-in-name": b"A\xe9: b\r\n",
    "quoted-name": b'"A": b\r\n',
    "request": HIDDEN[:-2],
}

ROWS = [
    *section(
        "RFC 9112 section 7.1",
        _good("one-chunk", b"2\r\nhi\r\n" + _END),
        _good("two-chunks", b"1\r\nh\r\n1\r\ni\r\n" + _END),
        _good("no-chunks", _END, b""),
        _good("leading-zeros", b"0002\r\nhi\r\n" + _END),
        _good("sixteen-digits", b"0000000000000002\r\nhi\r\n" + _END),
        _good("last-chunk-zeros", b"2\r\nhi\r\n000\r\n\r\n"),
        _good("last-chunk-sixteen-zeros", b"2\r\nhi\r\n0000000000000000\r\n\r\n"),
        _good("hex-lower", b"a\r\n0123456789\r\n" + _END, b"0123456789"),
        _good("hex-upper", b"A\r\n0123456789\r\n" + _END, b"0123456789"),
        _good("hex-mixed", b"fF\r\n" + b"a" * 255 + b"\r\n" + _END, b"a" * 255),
        _good("data-of-crlf", b"4\r\n\r\n\r\n\r\n" + _END, b"\r\n\r\n"),
        _good("data-of-last-chunk", b"5\r\n" + _END + b"\r\n" + _END, _END),
        _good("data-of-request", b"21\r\n" + HIDDEN + b"\r\n" + _END, HIDDEN),
        _good("data-binary", b"100\r\n" + bytes(range(256)) + b"\r\n" + _END, bytes(range(256))),
        _good("many-chunks", b"1\r\na\r\n" * 300 + _END, b"a" * 300),
        _good("large-chunk", b"4e20\r\n" + b"a" * 20000 + b"\r\n" + _END, b"a" * 20000),
        *[
            _bad(f"size-{name}", size + b"\r\nhi\r\n" + _END + HIDDEN, cve=_SIZE_CVES.get(name, ""))
            for name, size in _BAD_SIZES.items()
        ],
        *[
            _bad(f"last-{name}", b"2\r\nhi\r\n" + size.replace(b"2", b"0") + b"\r\n\r\n" + HIDDEN)
            for name, size in _BAD_SIZES.items()
        ],
        _bad("size-second-bad", b"1\r\nh\r\nx\r\ni\r\n" + _END),
        _bad("size-line-of-lf", b"2\nhi\r\n" + _END, cve="CVE-2025-22871"),
        _bad("size-line-of-cr", b"2\rhi\r\n" + _END),
        _bad("size-line-of-cr-cr-lf", b"2\r\r\nhi\r\n" + _END),
        _bad("size-line-of-lf-cr", b"2\n\rhi\r\n" + _END),
        _bad("size-line-unended", b"2" * 5000),
        _bad("data-too-long", b"1\r\nhi\r\n" + _END),
        _bad("data-too-short", b"3\r\nhi\r\n" + _END),
        _bad("data-end-missing", b"2\r\nhi" + _END + HIDDEN, cve="CVE-2025-43859"),
        _bad("data-end-any-two-bytes", b"2\r\nhiXX" + _END, cve="CVE-2025-43859"),
        _bad("data-end-lf", b"2\r\nhi\n" + _END, cve="CVE-2025-43859"),
        _bad("data-end-cr", b"2\r\nhi\r" + _END),
        _bad("data-end-lf-cr", b"2\r\nhi\n\r" + _END),
        _bad("data-end-lf-lf", b"2\r\nhi\n\n" + _END),
        _bad("data-end-cr-cr", b"2\r\nhi\r\r" + _END),
        _bad("data-end-cr-x", b"2\r\nhi\rX" + _END),
        _bad("data-end-space", b"2\r\nhi \r\n" + _END),
        _bad("data-end-twice", b"2\r\nhi\r\n\r\n" + _END),
        _bad("last-chunk-lf", b"2\r\nhi\r\n0\n\r\n"),
        _bad("last-chunk-lf-lf", b"2\r\nhi\r\n0\n\n"),
        _bad("last-chunk-end-lf", b"2\r\nhi\r\n0\r\n\n"),
        _bad("last-chunk-end-cr", b"2\r\nhi\r\n0\r\n\r"),
        _bad("last-chunk-no-end", b"2\r\nhi\r\n0\r\n" + HIDDEN),
        _bad("last-chunk-end-space", b"2\r\nhi\r\n0\r\n \r\n"),
        _bad("no-size-at-all", b"hi"),
        _bad("request-for-size", HIDDEN),
        _bad("one-over-the-limit", b"40000001\r\n", 413),
        _bad("2-to-32-and-2", b"100000002\r\nhi\r\n" + _END, 413),
        _bad("2-to-63", b"8000000000000000\r\n", 413),
        _bad("2-to-64-less-1", b"ffffffffffffffff\r\n", 413),
        _bad("second-chunk-over-the-limit", b"2\r\nhi\r\n3fffffff\r\n", 413),
    ),
    *section(
        "RFC 9112 section 7.1.1",
        _good("name", b"2;a\r\nhi\r\n" + _END),
        _good("value", b"2;a=b\r\nhi\r\n" + _END),
        _good("several", b"2;a;b=c;d\r\nhi\r\n" + _END),
        _good("quoted", b'2;a="b c"\r\nhi\r\n' + _END),
        _good("quoted-empty", b'2;a=""\r\nhi\r\n' + _END),
        _good("quoted-escape", b'2;a="b\\"c\\\\"\r\nhi\r\n' + _END),
        _good("quoted-specials", b'2;a="; 0=,/"\r\nhi\r\n' + _END),
        _good("quoted-tab", b'2;a="\t"\r\nhi\r\n' + _END),
        _good("on-last-chunk", b"2\r\nhi\r\n0;a=b\r\n\r\n"),
        _good("like-signatures", b"2;chunk-signature=" + b"0" * 64 + b"\r\nhi\r\n" + _END),
        *[
            _good(f"extension-{name}", b"2" + extension + b"\r\nhi\r\n" + _END)
            for name, extension in _GOOD_EXTENSIONS.items()
        ],
        *[
            _good(f"extension-on-last-{name}", b"2\r\nhi\r\n0" + extension + b"\r\n\r\n")
            for name, extension in _GOOD_EXTENSIONS.items()
        ],
        *[
            _bad(
                f"extension-{name}",
                b"2" + extension + b"\r\nhi\r\n" + _END + HIDDEN,
                cve=_EXTENSION_CVES.get(name, ""),
            )
            for name, extension in _BAD_EXTENSIONS.items()
        ],
        *[
            _bad(f"extension-on-last-{name}", b"2\r\nhi\r\n0" + extension + b"\r\n\r\n" + HIDDEN)
            for name, extension in _BAD_EXTENSIONS.items()
        ],
        _good("of-four-thousand", b"2;" + b"a" * 4000 + b"\r\nhi\r\n" + _END),
        _bad("of-five-thousand", b"2;" + b"a" * 5000 + b"\r\nhi\r\n" + _END, cve="CVE-2024-22019"),
        _bad("unended", b"2;" + b"a" * 100000, cve="CVE-2024-22019"),
        _bad("quoted-unended", b'2;a="' + b"a" * 100000),
        _bad("many-semicolons", b"2" + b";a" * 50000 + b"\r\n"),
        _bad("more-than-content", (b"1;" + b"a" * 1000 + b"\r\nh\r\n") * 100, cve="CVE-2023-39326"),
    ),
    *section(
        "RFC 9112 section 7.1.2",
        _good("trailer", b"2\r\nhi\r\n0\r\nX-Checksum: 1\r\n\r\n"),
        _good("trailers", b"2\r\nhi\r\n0\r\nA: b\r\nC:\r\nD:\te\r\n\r\n"),
        _good("trailer-after-nothing", b"0\r\nA: b\r\n\r\n", b""),
        _good("hundred-trailers", b"0\r\n" + b"A: b\r\n" * 100 + b"\r\n", b""),
        *[
            _good(f"dropped-{i}", b"2\r\nhi\r\n0\r\n" + trailer + b"\r\n\r\n")
            for i, trailer in enumerate(_TRAILERS_DROPPED)
        ],
        *[
            _bad(
                f"refused-{i}",
                b"2\r\nhi\r\n0\r\n" + trailer + b"\r\n\r\n" + HIDDEN,
                cve="CVE-2025-53643",
            )
            for i, trailer in enumerate(_TRAILERS_REFUSED)
        ],
        *[
            _bad(f"bad-{name}", b"2\r\nhi\r\n0\r\n" + trailer + b"\r\n")
            for name, trailer in _BAD_TRAILERS.items()
        ],
        _bad("hundred-and-one-trailers", b"0\r\n" + b"A: b\r\n" * 101 + b"\r\n", 431),
        _bad("trailer-too-large", b"0\r\nA: " + b"b" * 70000 + b"\r\n\r\n", 431),
        _bad("trailer-unended", b"0\r\nA: " + b"b" * 70000, 431),
        _bad("trailers-too-large", b"0\r\n" + (b"A: " + b"b" * 2000 + b"\r\n") * 40 + b"\r\n", 431),
        _bad("trailer-end-lf", b"0\r\nA: b\r\n\n"),
    ),
]
