"""RFC 9112 section 6 and RFC 9110 section 8.6: where a message ends."""

from wire.row import HIDDEN, bad, good, head, post, section

_HI = ("POST", "/", "x", b"hi")
_EMPTY = ("POST", "/", "x", b"")
_ZERO = b"0\r\n\r\n"
_CHUNKED_HI = b"2\r\nhi\r\n0\r\n\r\n"
_TE = b"Transfer-Encoding: chunked"

_BAD_LENGTHS = {
    "empty": b"",
    "negative": b"-1",
    "negative-zero": b"-0",
    "plus": b"+2",
    "hex": b"0x2",
    "hex-digits": b"a",
    "octal": b"0o2",
    "underscore": b"1_0",
    "point": b"2.0",
    "exponent": b"2e0",
    "suffix": b"2b",
    "prefix": b"b2",
    "space-inside": b"1 0",
    "tab-inside": b"1\t0",
    "list-equal": b"2, 2",
    "list-equal-no-space": b"2,2",
    "list-other": b"2, 33",
    "list-trailing-comma": b"2,",
    "list-leading-comma": b",2",
    "semicolon": b"2;",
    "quoted": b'"2"',
    "chunked": b"chunked",
    "superscript": b"\xb2",
    "utf-8-digit": "\u0662".encode(),
    "full-width-digit": "\uff12".encode(),
    "nul": b"2\x00",
    "vt": b"\x0b2",
    "ff-behind": b"2\x0c",
    "nbsp": b"\xa02",
    "nel-behind": b"2\x85",
    "comma-newline": b"2,\r\n 2",
}

_BAD_CODINGS = {
    "empty": b"",
    "identity": b"identity",
    "gzip": b"gzip",
    "pigeons": b"pigeons",
    "not-final": b"chunked, gzip",
    "not-final-identity": b"chunked, identity",
    "twice": b"chunked, chunked",
    "twice-no-space": b"chunked,chunked",
    "trailing-comma": b"chunked,",
    "leading-comma": b", chunked",
    "empty-elements": b",,chunked",
    "only-comma": b",",
    "parameter": b"chunked;q=1",
    "parameter-empty": b"chunked;",
    "quoted": b'"chunked"',
    "single-quoted": b"'chunked'",
    "prefix-x": b"xchunked",
    "suffix-x": b"chunkedx",
    "suffix-ed": b"chunkeded",
    "short": b"chunke",
    "abbreviated": b"chunk",
    "space-inside": b"chun ked",
    "two-words": b"identity chunked",
    "two-words-chunked-first": b"chunked identity",
    "field-inside": b"Transfer-Encoding: chunked",
    "colon": b": chunked",
    "equals": b"=chunked",
    "bracket": b"[chunked]",
    "nul": b"chunked\x00",
    "vt": b"\x0bchunked",
    "vt-behind": b"chunked\x0b",
    "ff": b"\x0cchunked",
    "bs": b"chunked\x08",
    "del": b"chunked\x7f",
    "esc": b"\x1bchunked",
    "us": b"chunked\x1f",
    "nbsp": b"\xa0chunked",
    "nbsp-behind": b"chunked\xa0",
    "nel-behind": b"chunked\x85",
    "ff-byte-behind": b"chunked\xff",
    "kelvin-sign": "chun\u212aed".encode(),
    "dotless": "chun\u0138ed".encode(),
    "full-width": "\uff43hunked".encode(),
    "cr-behind": b"chunked\r",
    "lf-behind": b"chunked\n",
    "cr-inside": b"chun\rked",
    "folded": b"\r\n chunked",
    "folded-list": b"gzip,\r\n chunked",
    "gzip-no-comma": b"gzip chunked",
    "gzip-semicolon": b"gzip; chunked",
}

# Advisories on servers that took the value for a length, or for chunked.
_LENGTH_CVES = {
    "space-inside": "CVE-2018-7159",
    "plus": "CVE-2022-24801",
    "hex": "CVE-2022-24761",
    "underscore": "GHSA-qppv-j76h-2rpx",
    "list-equal": "CVE-2019-16792",
}
_CODING_CVES = {
    "identity": "CVE-2024-1135",
    "not-final": "CVE-2024-1135",
    "not-final-identity": "CVE-2024-6827",
    "two-words": "CVE-2019-15605",
    "prefix-x": "CVE-2022-32213",
    "suffix-ed": "CVE-2022-32213",
    "vt": "CVE-2019-16789",
    "vt-behind": "CVE-2019-16789",
    "ff": "CVE-2019-16789",
    "nbsp": "CVE-2019-16789",
    "folded": "CVE-2022-32215",
    "folded-list": "CVE-2022-32215",
}

_ALIASES = [
    b"Transfer_Encoding: chunked",
    b"transfer_encoding: chunked",
    b"TRANSFER_ENCODING: chunked",
    b"Transfer_Encoding: identity",
    b"Content_Length: 33",
    b"content_length: 33",
    b"CONTENT_LENGTH: 0",
]

ROWS = [
    *section(
        "RFC 9110 section 8.6",
        good("length", post(b"Content-Length: 2", body=b"hi"), _HI),
        good("length-zero", post(b"Content-Length: 0"), _EMPTY),
        good("length-zeros", post(b"Content-Length: 000"), _EMPTY),
        good("leading-zeros", post(b"Content-Length: 0002", body=b"hi"), _HI),
        good("eighteen-digits", post(b"Content-Length: 000000000000000002", body=b"hi"), _HI),
        good("no-space", post(b"Content-Length:2", body=b"hi"), _HI),
        good("spaces-around", post(b"Content-Length: \t2 \t", body=b"hi"), _HI),
        good("other-case", post(b"cONTENT-lENGTH: 2", body=b"hi"), _HI),
        good(
            "body-of-crlf",
            post(b"Content-Length: 4", body=b"\r\n\r\n"),
            ("POST", "/", "x", b"\r\n\r\n"),
        ),
        good(
            "body-binary",
            post(b"Content-Length: 256", body=bytes(range(256))),
            ("POST", "/", "x", bytes(range(256))),
        ),
        good(
            "body-of-request", post(b"Content-Length: 33", body=HIDDEN), ("POST", "/", "x", HIDDEN)
        ),
        good(
            "body-of-chunks",
            post(b"Content-Length: 12", body=_CHUNKED_HI),
            ("POST", "/", "x", _CHUNKED_HI),
        ),
        good("get-with-body", head(b"Content-Length: 2") + b"hi", ("GET", "/", "x", b"hi")),
        good(
            "get-with-request-as-body",
            head(b"Content-Length: 33") + HIDDEN,
            ("GET", "/", "x", HIDDEN),
        ),
        *[
            good(
                f"{name}-with-body",
                head(b"Content-Length: 2", method=method.encode()) + b"hi",
                (method, "/", "x", b"hi"),
            )
            for name, method in [
                ("head", "HEAD"),
                ("delete", "DELETE"),
                ("options", "OPTIONS"),
                ("unknown-method", "BREW"),
            ]
        ],
        good("without", post(), _EMPTY),
        good("without-put", head(method=b"PUT"), ("PUT", "/", "x", b"")),
        good(
            "at-1.0", post(b"Content-Length: 2", body=b"hi", version=b"HTTP/1.0"), _HI, closes=True
        ),
        good(
            "near-name", head(b"Content-Lengths: 33", b"X-Content-Length: 33", b"ContentLength: 33")
        ),
        *[
            bad(
                f"bad-{name}",
                post(b"Content-Length: " + value, body=b"hi" + HIDDEN),
                cve=_LENGTH_CVES.get(name, ""),
            )
            for name, value in _BAD_LENGTHS.items()
        ],
        *[
            bad(
                f"bad-at-1.0-{name}",
                post(b"Content-Length: " + value, body=b"hi", version=b"HTTP/1.0"),
            )
            for name, value in _BAD_LENGTHS.items()
        ],
        bad(
            "twice-equal",
            post(b"Content-Length: 2", b"Content-Length: 2", body=b"hi"),
            cve="CVE-2019-16792",
        ),
        bad(
            "twice-other",
            post(b"Content-Length: 0", b"Content-Length: 33", body=HIDDEN),
            cve="CVE-2020-10108",
        ),
        bad("twice-other-reversed", post(b"Content-Length: 33", b"Content-Length: 0", body=HIDDEN)),
        bad("twice-apart", post(b"Content-Length: 2", b"A: b", b"content-length: 2", body=b"hi")),
        bad("twice-second-bad", post(b"Content-Length: 2", b"Content-Length: x", body=b"hi")),
        bad("twice-zero", head(b"Content-Length: 0", b"Content-Length: 0")),
        bad("twice-leading-zero", post(b"Content-Length: 2", b"Content-Length: 02", body=b"hi")),
        bad("get-bad", head(b"Content-Length: x")),
        bad("one-over-the-limit", post(b"Content-Length: 1073741825"), 413),
        bad("2-to-31", post(b"Content-Length: 2147483648"), 413),
        bad("2-to-32-and-2", post(b"Content-Length: 4294967298", body=b"hi"), 413),
        bad("2-to-63", post(b"Content-Length: 9223372036854775808"), 413),
        bad("2-to-64-and-2", post(b"Content-Length: 18446744073709551618", body=b"hi"), 413),
        bad("thirty-digits", post(b"Content-Length: " + b"9" * 30), 413),
        bad("five-thousand-digits", post(b"Content-Length: " + b"9" * 5000), 413),
        bad("sixty-thousand-digits", post(b"Content-Length: " + b"9" * 60000), 413),
        bad("nineteen-zeros", post(b"Content-Length: 0000000000000000002", body=b"hi")),
        bad("twenty-two-digits", post(b"Content-Length: 0000000000000000000005", body=b"hello")),
        bad("thirty-zeros", post(b"Content-Length: " + b"0" * 30, body=b"")),
    ),
    *section(
        "RFC 9112 section 6.1",
        good("chunked", post(_TE, body=_CHUNKED_HI), _HI),
        good("upper-case", post(b"TRANSFER-ENCODING: CHUNKED", body=_CHUNKED_HI), _HI),
        good("mixed-case", post(b"transfer-encoding: Chunked", body=_CHUNKED_HI), _HI),
        good("no-space", post(b"Transfer-Encoding:chunked", body=_CHUNKED_HI), _HI),
        good("spaces-around", post(b"Transfer-Encoding: \t chunked \t ", body=_CHUNKED_HI), _HI),
        # llhttp takes a tab after the coding for a part of it.
        good("tab-behind", post(b"Transfer-Encoding: chunked\t", body=_CHUNKED_HI), _HI),
        good("get", head(_TE) + _CHUNKED_HI, ("GET", "/", "x", b"hi")),
        good("unknown-method", head(_TE, method=b"BREW") + _CHUNKED_HI, ("BREW", "/", "x", b"hi")),
        good(
            "near-name-without-body",
            head(b"X-Transfer-Encoding: chunked", b"Transfer-Encodin: chunked"),
        ),
        good("te-is-another-field", head(b"TE: trailers, chunked;q=0.5", b"Connection: TE")),
        good("trailer-is-another-field", head(b"Trailer: Transfer-Encoding")),
        *[
            bad(
                f"bad-{name}",
                post(b"Transfer-Encoding: " + value, body=_ZERO + HIDDEN),
                cve=_CODING_CVES.get(name, ""),
            )
            for name, value in _BAD_CODINGS.items()
        ],
        *[
            bad(
                f"bad-with-length-{name}",
                post(b"Transfer-Encoding: " + value, b"Content-Length: 5", body=_ZERO + HIDDEN),
                cve=_CODING_CVES.get(name, ""),
            )
            for name, value in _BAD_CODINGS.items()
        ],
        bad(
            "gzip-then-chunked",
            post(b"Transfer-Encoding: gzip, chunked", body=_ZERO),
            501,
            cve="CVE-2019-16786",
        ),
        bad(
            "identity-then-chunked", post(b"Transfer-Encoding: identity, chunked", body=_ZERO), 501
        ),
        bad("deflate-then-chunked", post(b"Transfer-Encoding: deflate,chunked", body=_ZERO), 501),
        bad("three-codings", post(b"Transfer-Encoding: gzip, br, chunked", body=_ZERO), 501),
        bad("unknown-then-chunked", post(b"Transfer-Encoding: foo , chunked", body=_ZERO), 501),
        bad("twice", post(_TE, _TE, body=_ZERO + HIDDEN), cve="GHSA-753j-mpmx-qq6g"),
        bad("twice-case", post(_TE, b"transfer-encoding: chunked", body=_ZERO + HIDDEN)),
        bad("twice-identity-first", post(b"Transfer-Encoding: identity", _TE, body=_ZERO + HIDDEN)),
        bad(
            "twice-identity-last",
            post(_TE, b"Transfer-Encoding: identity", body=_ZERO + HIDDEN),
            cve="CVE-2020-8287",
        ),
        bad("twice-gzip-first", post(b"Transfer-Encoding: gzip", _TE, body=_ZERO + HIDDEN)),
        bad("twice-empty-last", post(_TE, b"Transfer-Encoding:", body=_ZERO + HIDDEN)),
        bad("twice-empty-first", post(b"Transfer-Encoding:", _TE, body=_ZERO + HIDDEN)),
        bad("twice-apart", post(_TE, b"A: b", b"Transfer-Encoding: x", body=_ZERO + HIDDEN)),
        bad("at-1.0", post(_TE, body=_CHUNKED_HI, version=b"HTTP/1.0")),
        bad(
            "at-1.0-kept",
            post(_TE, b"Connection: keep-alive", body=_ZERO + HIDDEN, version=b"HTTP/1.0"),
        ),
        bad(
            "at-1.0-gzip",
            post(b"Transfer-Encoding: gzip, chunked", body=_ZERO, version=b"HTTP/1.0"),
        ),
        bad("at-1.0-with-length", post(b"Content-Length: 5", _TE, body=_ZERO, version=b"HTTP/1.0")),
    ),
    *section(
        "RFC 9112 section 6.3",
        bad(
            "length-then-coding",
            post(b"Content-Length: 5", _TE, body=_ZERO + HIDDEN),
            cve="CVE-2020-10109",
        ),
        bad(
            "coding-then-length",
            post(_TE, b"Content-Length: 5", body=_ZERO + HIDDEN),
            cve="CVE-2020-10109",
        ),
        bad("coding-and-length-zero", post(_TE, b"Content-Length: 0", body=_ZERO)),
        bad("coding-and-length-bad", post(_TE, b"Content-Length: x", body=_ZERO)),
        bad("coding-and-length-empty", post(_TE, b"Content-Length:", body=_ZERO)),
        bad("coding-and-length-huge", post(_TE, b"Content-Length: " + b"9" * 30, body=_ZERO)),
        bad(
            "coding-between-lengths",
            post(b"Content-Length: 5", _TE, b"Content-Length: 5", body=_ZERO),
        ),
        bad(
            "gzip-chunked-and-length",
            post(b"Transfer-Encoding: gzip, chunked", b"Content-Length: 5", body=_ZERO),
        ),
        bad("cl-te-classic", post(b"Content-Length: 6", _TE, body=_ZERO + b"G" + HIDDEN)),
        bad(
            "te-cl-classic",
            post(_TE, b"Content-Length: 4", body=b"21\r\n" + HIDDEN + b"\r\n" + _ZERO),
        ),
        # CGI variables do not distinguish "-" and "_".
        *[bad(f"alias-{i}", head(alias)) for i, alias in enumerate(_ALIASES)],
        *[
            bad(f"alias-{i}-beside-length", post(b"Content-Length: 2", alias, body=b"hi"))
            for i, alias in enumerate(_ALIASES)
        ],
        *[
            bad(f"alias-{i}-beside-coding", post(_TE, alias, body=_ZERO + HIDDEN))
            for i, alias in enumerate(_ALIASES)
        ],
    ),
]
