"""Trusted peers and what their fields change; spoofing above all."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiowsgi.exceptions import ConfigError, RequestError
from aiowsgi.proxy.headers import (
    DEFAULT_TRUSTED,
    DirectPeer,
    ForwardedInfo,
    apply_forwarded,
    parse_trusted,
)

Fields = list[tuple[bytes, bytes]]

PROXY = DirectPeer("10.0.0.1", 5000, "http")
STRANGER = DirectPeer("203.0.113.9", 6000, "http")
TRUSTED = parse_trusted("10.0.0.0/8")
OTHER: Fields = [(b"Host", b"inner"), (b"Accept", b"*/*"), (b"X-Forwarded-Server", b"lb")]


def fields(*lines: str) -> Fields:
    pairs = (line.partition(": ") for line in lines)
    return [(name.encode(), value.encode("latin-1")) for name, _, value in pairs]


def ask(*lines: str, peer: DirectPeer = PROXY, trusted: str = "10.0.0.0/8") -> ForwardedInfo:
    return apply_forwarded(OTHER + fields(*lines), peer, parse_trusted(trusted))


# Trusted peers


@pytest.mark.parametrize(
    ("text", "host", "answer"),
    [
        ("127.0.0.1", "127.0.0.1", True),
        ("127.0.0.1", "127.0.0.2", False),
        ("127.0.0.1", "::ffff:127.0.0.1", True),
        ("::ffff:127.0.0.1", "127.0.0.1", True),
        ("10.0.0.0/8, 192.168.0.0/16", "192.168.3.4", True),
        ("10.0.0.0/8", "::ffff:10.9.8.7", True),
        ("10.0.0.0/8", "11.0.0.1", False),
        ("2001:db8::/32", "2001:db8::1", True),
        ("2001:db8::/32", "2001:db9::1", False),
        ("fe80::/10", "fe80::1%eth0", True),
        ("::/0", "127.0.0.1", False),
        ("0.0.0.0/0", "127.0.0.1", True),
        ("unix", None, True),
        ("127.0.0.1", None, False),
        ("unix", "127.0.0.1", False),
        ("*", "203.0.113.9", True),
        ("*", None, True),
        ("", "127.0.0.1", False),
        (" , ", None, False),
        ("127.0.0.1", "", False),
        ("127.0.0.1", "unknown", False),
        (DEFAULT_TRUSTED, "127.0.0.1", True),
        (DEFAULT_TRUSTED, "::1", True),
        (DEFAULT_TRUSTED, None, True),
        (DEFAULT_TRUSTED, "10.0.0.1", False),
    ],
)
def test_trusts(text: str, host: str | None, answer: bool) -> None:
    """A peer is trusted by address, network, as a unix socket's, or because everyone is."""
    trusted = parse_trusted(text)
    assert trusted.trusts(host) is answer
    assert trusted.trusts(host) is answer


@pytest.mark.parametrize(
    "item", ["localhost", "10.0.0.1/8", "10.0.0.0/33", "256.0.0.1", "unix:/run/a", "10.*", "-"]
)
def test_bad_trusted(item: str) -> None:
    """An item that is none of these is an error that quotes it."""
    with pytest.raises(ConfigError, match="forwarded_allow_ips") as caught:
        parse_trusted(f"127.0.0.1,{item}")
    assert repr(item) in str(caught.value)


def test_star_says_nothing_of_hops() -> None:
    """Trusting everyone who connects does not make proxies of the addresses in a field."""
    assert not parse_trusted("*").trusts_hop("203.0.113.9")
    assert parse_trusted("*,10.0.0.0/8").trusts_hop("10.0.0.1")


# The client


def test_nothing_forwarded() -> None:
    """Without such fields the peer is the client, and the fields are the same object."""
    assert apply_forwarded(OTHER, PROXY, TRUSTED) == ForwardedInfo(
        "10.0.0.1", 5000, "http", None, None, "", OTHER
    )
    assert apply_forwarded(OTHER, PROXY, TRUSTED).fields is OTHER


CLIENTS: list[tuple[list[str], tuple[str | None, int | None]]] = [
    (["X-Forwarded-For: 192.0.2.1"], ("192.0.2.1", None)),
    (["x-forwarded-for: 192.0.2.1:4711"], ("192.0.2.1", 4711)),
    (["X-FORWARDED-FOR: 2001:db8::1"], ("2001:db8::1", None)),
    (["X-Forwarded-For: [2001:db8::1]:80"], ("2001:db8::1", 80)),
    (["X-Forwarded-For: ::ffff:192.0.2.1"], ("192.0.2.1", None)),
    (["X-Forwarded-For: 192.0.2.1, 10.0.0.2"], ("192.0.2.1", None)),
    (["X-Forwarded-For: 192.0.2.1,10.0.0.3 ,10.0.0.2"], ("192.0.2.1", None)),
    (["X-Forwarded-For: 192.0.2.1", "X-Forwarded-For: 10.0.0.2"], ("192.0.2.1", None)),
    (["X-Forwarded-For: 192.0.2.1,, "], ("192.0.2.1", None)),
    # Spoofed on the left: by addresses, by trusted addresses, in a line of their own, by rubbish.
    (["X-Forwarded-For: 127.0.0.1, 192.0.2.1"], ("192.0.2.1", None)),
    (["X-Forwarded-For: 10.0.0.7, 192.0.2.1"], ("192.0.2.1", None)),
    (["X-Forwarded-For: 127.0.0.1, 192.0.2.1, 10.0.0.2"], ("192.0.2.1", None)),
    (["X-Forwarded-For: 127.0.0.1", "X-Forwarded-For: 192.0.2.1"], ("192.0.2.1", None)),
    (["X-Forwarded-For: <script>, \"', 192.0.2.1"], ("192.0.2.1", None)),
    # A hop without an address hides what is left of it.
    (["X-Forwarded-For: 127.0.0.1, unknown"], ("10.0.0.1", 5000)),
    (["X-Forwarded-For: 127.0.0.1, unknown, 10.0.0.2"], ("10.0.0.2", None)),
    (["X-Forwarded-For: nonsense"], ("10.0.0.1", 5000)),
    (["X-Forwarded-For: "], ("10.0.0.1", 5000)),
    # All hops trusted.
    (["X-Forwarded-For: 10.0.0.3, 10.0.0.2"], ("10.0.0.3", None)),
    (["Forwarded: for=192.0.2.1"], ("192.0.2.1", None)),
    (['forwarded: For="[2001:db8::1]:4711"'], ("2001:db8::1", 4711)),
    (["Forwarded: for=192.0.2.1, for=10.0.0.2"], ("192.0.2.1", None)),
    (["Forwarded: for=192.0.2.1", "Forwarded: for=10.0.0.2"], ("192.0.2.1", None)),
    (["Forwarded: for=127.0.0.1, for=192.0.2.1"], ("192.0.2.1", None)),
    (["Forwarded: for=127.0.0.1, for=unknown"], ("10.0.0.1", 5000)),
    (["Forwarded: for=127.0.0.1, for=_hidden, for=10.0.0.2"], ("10.0.0.2", None)),
    (["Forwarded: proto=https"], ("10.0.0.1", 5000)),
    (["Forwarded: ,"], ("10.0.0.1", 5000)),
    # X-Forwarded-For is what this proxy writes; Forwarded came from the client.
    (["Forwarded: for=127.0.0.1", "X-Forwarded-For: 192.0.2.1"], ("192.0.2.1", None)),
    (["X-Forwarded-For: 192.0.2.1", 'Forwarded: "broken'], ("192.0.2.1", None)),
]


@pytest.mark.parametrize(("lines", "client"), CLIENTS)
def test_client(lines: list[str], client: tuple[str | None, int | None]) -> None:
    """The client is the right-most address that is not trusted."""
    assert ask(*lines)[:2] == client


@pytest.mark.parametrize("lines", [lines for lines, _ in CLIENTS])
def test_untrusted(lines: list[str]) -> None:
    """Fields of an untrusted peer have no effect and are removed."""
    assert ask(*lines, peer=STRANGER) == ForwardedInfo(*STRANGER, None, None, "", OTHER)


@pytest.mark.parametrize(
    ("trusted", "host"),
    [("*", "192.0.2.1"), ("*,192.0.2.0/24", "127.0.0.1"), ("unix", "192.0.2.1")],
)
def test_unix_peer(trusted: str, host: str) -> None:
    """The peer of a unix socket can be trusted; with ``*``, only the nearest address counts."""
    peer = DirectPeer(None, None, "http")
    assert ask("X-Forwarded-For: 127.0.0.1, 192.0.2.1", peer=peer, trusted=trusted)[0] == host


def test_untrusted_unix_peer() -> None:
    """A unix socket's peer is not trusted unless the list says so."""
    peer = DirectPeer(None, None, "http")
    assert ask("X-Forwarded-For: 192.0.2.1", peer=peer) == ForwardedInfo(
        *peer, None, None, "", OTHER
    )


@given(st.lists(st.text(st.characters(min_codepoint=0x20, max_codepoint=0xFF))))
def test_any_spoof(attack: list[str]) -> None:
    """Nothing left of the client's address, in any number of lines, has an effect."""
    lines = [f"X-Forwarded-For: {line}" for line in attack]
    assert ask(*lines, "X-Forwarded-For: 192.0.2.1, 10.0.0.2").client_host == "192.0.2.1"


# Scheme, host, port, prefix

FACTS: list[tuple[list[str], tuple[str, str | None, int | None, str], str | None]] = [
    (["X-Forwarded-Proto: https"], ("https", None, None, ""), None),
    (["X-Forwarded-Proto: http, https"], ("https", None, None, ""), None),
    (["X-Forwarded-Proto: http", "X-Forwarded-Proto: WSS"], ("https", None, None, ""), None),
    (["X-Forwarded-Proto: "], ("http", None, None, ""), None),
    (["X-Forwarded-Host: a.example"], ("http", "a.example", None, ""), "a.example"),
    (["X-Forwarded-Host: evil.example, a.example"], ("http", "a.example", None, ""), "a.example"),
    (["X-Forwarded-Host: a.example:8080"], ("http", "a.example", 8080, ""), "a.example:8080"),
    (["X-Forwarded-Host: a.example:80"], ("http", "a.example", 80, ""), "a.example"),
    (["X-Forwarded-Host: [::1]:81"], ("http", "[::1]", 81, ""), "[::1]:81"),
    (["X-Forwarded-Port: 8443"], ("http", None, 8443, ""), None),
    (
        ["X-Forwarded-Host: a.example", "X-Forwarded-Port: 443", "X-Forwarded-Proto: https"],
        ("https", "a.example", 443, ""),
        "a.example",
    ),
    (
        ["X-Forwarded-Host: a.example:8443", "X-Forwarded-Port: 443"],
        ("http", "a.example", 8443, ""),
        "a.example:8443",
    ),
    (["X-Forwarded-Prefix: /app/"], ("http", None, None, "/app"), None),
    (["X-Forwarded-Prefix: /"], ("http", None, None, ""), None),
    (
        ["Forwarded: for=192.0.2.1;proto=https;host=a.example"],
        ("https", "a.example", None, ""),
        "a.example",
    ),
    (
        ['Forwarded: for=1.1.1.1;proto=http;host=evil, for=192.0.2.1;host="a:81";proto=https'],
        ("https", "a", 81, ""),
        "a:81",
    ),
    # The proxy that the client connected to knows the scheme.
    (
        ["Forwarded: for=192.0.2.1;proto=https, for=10.0.0.2;proto=http"],
        ("https", None, None, ""),
        None,
    ),
    (["Forwarded: for=unknown;proto=https"], ("https", None, None, ""), None),
    (["Forwarded: proto=https;host=a"], ("https", "a", None, ""), "a"),
    (["Forwarded: proto=https", "X-Forwarded-For: 192.0.2.1"], ("http", None, None, ""), None),
]


@pytest.mark.parametrize(("lines", "facts", "authority"), FACTS)
def test_facts(
    lines: list[str], facts: tuple[str, str | None, int | None, str], authority: str | None
) -> None:
    """Scheme, host, port and prefix are those of the nearest proxy."""
    answer = ask(*lines)
    assert answer[2:6] == facts
    assert answer.authority == authority


def test_scheme_of_the_connection() -> None:
    """TLS up to this server stays https unless a proxy says otherwise."""
    peer = PROXY._replace(scheme="https")
    assert ask("X-Forwarded-For: 192.0.2.1", peer=peer).scheme == "https"
    assert ask("X-Forwarded-Proto: http", peer=peer).scheme == "http"
    assert ask("Forwarded: for=192.0.2.1", peer=peer).scheme == "https"


@pytest.mark.parametrize(
    "line",
    [
        "X-Forwarded-Proto: javascript",
        "X-Forwarded-Proto: https on",
        "X-Forwarded-Host: a/b",
        "X-Forwarded-Host: a b",
        "X-Forwarded-Host: user@a",
        "X-Forwarded-Port: http",
        "X-Forwarded-Port: 0",
        "X-Forwarded-Prefix: app",
        "X-Forwarded-Prefix: //evil.example",
        "Forwarded: for",
        'Forwarded: for="192.0.2.1',
        "Forwarded: for=192.0.2.1;proto=gopher",
        "Forwarded: for=192.0.2.1;host=a/b",
        'Forwarded: for="127.0.0.1, for="[2001:db8::1]"',
    ],
)
def test_malformed(line: str) -> None:
    """A malformed value is refused from a trusted peer, and removed from any other's request."""
    with pytest.raises(RequestError, match="400: A trusted proxy sent a malformed") as caught:
        ask(line)
    assert line.partition(":")[0] in caught.value.detail
    assert ask(line, peer=STRANGER).fields == OTHER


# The fields that remain


@pytest.mark.parametrize("peer", [PROXY, STRANGER])
@pytest.mark.parametrize(
    "name",
    [
        "X_Forwarded_For",
        "X-Forwarded_For",
        "x_forwarded-for",
        "X_FORWARDED_PROTO",
        "X_Forwarded_Host",
    ],
)
def test_underscores(peer: DirectPeer, name: str) -> None:
    """A name with an underscore never counts and never reaches the application."""
    answer = ask(f"{name}: 127.0.0.1", peer=peer)
    assert answer == ForwardedInfo(*peer, None, None, "", OTHER)


def test_underscores_beside_the_real_one() -> None:
    """The real field counts and stays, without its double."""
    real = fields("X-Forwarded-For: 192.0.2.1")
    answer = apply_forwarded(fields("X_Forwarded_For: 127.0.0.1") + real, PROXY, TRUSTED)
    assert answer.client_host == "192.0.2.1"
    assert answer.fields == real


def test_believed_fields_stay() -> None:
    """Fields that count stay for applications that read them."""
    given_fields = fields("Host: a", "X-Forwarded-For: 192.0.2.1", "X-Forwarded-Proto: https")
    assert apply_forwarded(given_fields, PROXY, TRUSTED).fields is given_fields


def test_forwarded_goes_where_it_lost() -> None:
    """A Forwarded field that was ignored is removed."""
    real = fields("X-Forwarded-For: 192.0.2.1")
    assert apply_forwarded(real + fields("Forwarded: for=127.0.0.1"), PROXY, TRUSTED).fields == real
