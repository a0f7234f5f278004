"""Contexts from files: what is accepted, what is refused and how; client certificates."""

from __future__ import annotations

import ssl
import subprocess
import sys
from pathlib import Path

import pytest
import trustme

from aiowsgi.exceptions import ConfigError
from aiowsgi.net.tls import ServerContexts, TLSFiles, client_certificate_environ, server_context

CA = trustme.CA()
SERVER = CA.issue_cert("localhost")
OTHER = CA.issue_cert("other.test")
RSA = CA.issue_cert("localhost", key_type=trustme.KeyType.RSA)


class Files:
    """A folder with a certificate, its key, and what else a test puts there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.write("cert.pem", *(blob.bytes() for blob in SERVER.cert_chain_pems))
        self.write("key.pem", SERVER.private_key_pem.bytes())
        self.write("ca.pem", CA.cert_pem.bytes())

    def write(self, name: str, *content: bytes) -> str:
        (self.folder / name).write_bytes(b"".join(content))
        return self.path(name)

    def path(self, name: str) -> str:
        return str(self.folder / name)

    def tls(self, **changes: str | int | None) -> TLSFiles:
        files = TLSFiles(self.path("cert.pem"), self.path("key.pem"))
        return files._replace(**changes)  # type: ignore[arg-type]


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


def client_context(**attributes: object) -> ssl.SSLContext:
    context = ssl.create_default_context()
    CA.configure_trust(context)
    for name, value in attributes.items():
        setattr(context, name, value)
    return context


def handshake(
    server: ssl.SSLContext, client: ssl.SSLContext, session: ssl.SSLSession | None = None
) -> tuple[ssl.SSLObject, ssl.SSLObject]:
    """Shake hands in memory; return both ends."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = (
        server.wrap_bio(to_server, to_client, server_side=True),
        client.wrap_bio(to_client, to_server, server_hostname="localhost", session=session),
    )
    for _ in range(10):
        for end in ends:
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
    return ends


# Policy


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_versions(files: Files, version: ssl.TLSVersion) -> None:
    """TLS 1.2 and 1.3 are spoken, with forward secrecy, for HTTP/1.1 and without compression."""
    client = client_context(maximum_version=version, minimum_version=version)
    client.set_alpn_protocols(["h2", "http/1.1"])
    server_end, _ = handshake(server_context(files.tls()), client)
    assert server_end.version() == version.name.replace("_", ".")
    assert server_end.selected_alpn_protocol() == "http/1.1"
    assert server_end.compression() is None


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
def test_old_version(files: Files) -> None:
    """TLS 1.1 is not spoken."""
    client = client_context()
    client.minimum_version = client.maximum_version = ssl.TLSVersion.TLSv1_1
    client.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.raises(ssl.SSLError):
        handshake(server_context(files.tls()), client)


@pytest.mark.parametrize(
    ("cipher", "accepted"),
    [
        ("ECDHE-RSA-AES128-GCM-SHA256", True),
        ("ECDHE-RSA-CHACHA20-POLY1305", True),
        ("AES256-GCM-SHA384", False),
        ("ECDHE-RSA-AES256-SHA384", False),
        ("DHE-RSA-AES256-GCM-SHA384", False),
    ],
)
def test_ciphers(files: Files, cipher: str, accepted: bool) -> None:
    """Suites without forward secrecy or without authenticated encryption are refused."""
    files.write("rsa.pem", RSA.private_key_and_cert_chain_pem.bytes())
    context = server_context(TLSFiles(files.path("rsa.pem")))
    client = client_context(maximum_version=ssl.TLSVersion.TLSv1_2)
    client.set_ciphers(cipher)
    if accepted:
        assert handshake(context, client)[0].shared_ciphers()
    else:
        with pytest.raises(ssl.SSLError):
            handshake(context, client)


def test_options(files: Files) -> None:
    """Compression and renegotiation are off."""
    options = server_context(files.tls()).options
    assert options & ssl.OP_NO_COMPRESSION
    assert options & ssl.OP_NO_RENEGOTIATION


def test_key_in_the_certificate_file(files: Files) -> None:
    """One file may hold the certificate and the key."""
    both = files.write("both.pem", SERVER.private_key_and_cert_chain_pem.bytes())
    _, client_end = handshake(server_context(TLSFiles(both)), client_context())
    assert client_end.getpeercert()["subjectAltName"] == (("DNS", "localhost"),)


@pytest.mark.slow("processes")
def test_lazy() -> None:
    """The module can be imported where Python has no ssl."""
    code = "import sys; sys.modules['ssl'] = None; import aiowsgi.net.tls"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# Errors


def encrypted_key() -> bytes:
    from cryptography.hazmat.primitives import serialization

    key = serialization.load_pem_private_key(SERVER.private_key_pem.bytes(), None)
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"secret"),
    )


BROKEN = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"


@pytest.mark.parametrize(
    ("option", "content", "reason"),
    [
        ("certfile", None, "no such file or directory"),
        ("keyfile", None, "no such file or directory"),
        ("ca_certs", None, "no such file or directory"),
        ("certfile", b"", "holds no certificate in PEM form"),
        ("keyfile", b"", "holds no private key in PEM form"),
        ("ca_certs", b"", "holds no certificate in PEM form"),
        ("certfile", SERVER.private_key_pem.bytes(), "holds no certificate"),
        ("keyfile", SERVER.cert_chain_pems[0].bytes(), "holds no private key"),
        ("certfile", BROKEN, "cannot use"),
        ("ca_certs", BROKEN, "cannot use"),
        ("keyfile", OTHER.private_key_pem.bytes(), "is not the key of the certificate in"),
        ("keyfile", encrypted_key(), "is encrypted; write it without a password"),
    ],
)
def test_bad_file(files: Files, option: str, content: bytes | None, reason: str) -> None:
    """Each mistake with a file is told by the option, the file and the reason, in one line."""
    path = files.path("bad.pem")
    if content is not None:
        files.write("bad.pem", content)
    with pytest.raises(ConfigError) as caught:
        server_context(files.tls(**{option: path}))
    message = str(caught.value)
    assert message.startswith(f"{option}: ")
    assert repr(path) in message
    assert reason in message
    assert "\n" not in message


def test_folder(files: Files) -> None:
    """A folder is no file."""
    with pytest.raises(ConfigError, match=r"certfile: cannot read .* is a directory"):
        server_context(files.tls(certfile=str(files.folder)))


def test_no_key_anywhere(files: Files) -> None:
    """Without a keyfile, the certificate's file is blamed for having no key."""
    with pytest.raises(ConfigError, match=r"certfile: .*cert\.pem' holds no private key"):
        server_context(files.tls(keyfile=None))


@pytest.mark.parametrize("value", ["maybe", 3, -1, ""])
def test_bad_cert_reqs(files: Files, value: str | int) -> None:
    """Only three degrees of asking for a certificate exist."""
    with pytest.raises(ConfigError, match="none, optional or required"):
        server_context(files.tls(cert_reqs=value, ca_certs=files.path("ca.pem")))


def test_cert_reqs_without_authorities(files: Files) -> None:
    """To ask for certificates without believing any is a mistake."""
    with pytest.raises(ConfigError, match="needs ca_certs"):
        server_context(files.tls(cert_reqs="required"))


# Client certificates


@pytest.mark.parametrize(
    ("value", "mode"),
    [
        ("none", ssl.CERT_NONE),
        ("Optional", ssl.CERT_OPTIONAL),
        ("required", ssl.CERT_REQUIRED),
        (0, ssl.CERT_NONE),
        (1, ssl.CERT_OPTIONAL),
        ("2", ssl.CERT_REQUIRED),
    ],
)
def test_cert_reqs(files: Files, value: str | int, mode: ssl.VerifyMode) -> None:
    """The degree is given as a word or as a number."""
    context = server_context(files.tls(cert_reqs=value, ca_certs=files.path("ca.pem")))
    assert context.verify_mode is mode


def identified(files: Files, name: str = "Ann", ca: trustme.CA = CA) -> ssl.SSLObject:
    client = client_context(maximum_version=ssl.TLSVersion.TLSv1_2)
    ca.issue_cert(
        "ann@example.org",
        common_name=name,
        organization_name="Example",
        organization_unit_name="Ops",
    ).configure_cert(client)
    tls = files.tls(cert_reqs="required", ca_certs=files.path("ca.pem"))
    return handshake(server_context(tls), client)[0]


def test_client_certificate(files: Files) -> None:
    """A verified certificate is described in mod_ssl's variables."""
    environ = client_certificate_environ(identified(files))
    assert environ["SSL_CLIENT_VERIFY"] == "SUCCESS"
    assert environ["SSL_CLIENT_S_DN"] == "CN=Ann,OU=Ops,O=Example"
    assert environ["SSL_CLIENT_I_DN"].startswith("OU=Testing CA #")
    assert int(environ["SSL_CLIENT_M_SERIAL"], 16) > 0
    start, end = (ssl.cert_time_to_seconds(environ[f"SSL_CLIENT_V_{x}"]) for x in ("START", "END"))
    assert start < end
    assert environ["SSL_CLIENT_CERT"].startswith("-----BEGIN CERTIFICATE-----\n")
    assert environ["SSL_CLIENT_CERT"].endswith("-----END CERTIFICATE-----\n")
    assert environ["SSL_PROTOCOL"] == "TLSv1.2"
    assert environ["SSL_CIPHER"].startswith("ECDHE-")


@pytest.mark.parametrize(
    ("name", "escaped"),
    [
        ("Ann,CN=root", "Ann\\,CN=root"),
        ('a"+;<>\\b', 'a\\"\\+\\;\\<\\>\\\\b'),
        ("#1", "\\#1"),
        (" a ", "\\ a\\ "),
        (" ", "\\ "),
        ("a\nb\x7f", "a\\0Ab\\7F"),
        ("caf\xe9", "caf\xc3\xa9"),
        ("\u4f60", "\xe4\xbd\xa0"),
    ],
)
def test_names_are_escaped(files: Files, name: str, escaped: str) -> None:
    """A name cannot pose as another attribute, and is UTF-8 in the manner of PEP 3333."""
    environ = client_certificate_environ(identified(files, name))
    assert environ["SSL_CLIENT_S_DN"] == f"CN={escaped},OU=Ops,O=Example"


def test_no_client_certificate(files: Files) -> None:
    """A client that shows none, where it may, is described as such."""
    tls = files.tls(cert_reqs="optional", ca_certs=files.path("ca.pem"))
    server_end, _ = handshake(server_context(tls), client_context())
    environ = client_certificate_environ(server_end)
    assert environ.keys() == {"SSL_CLIENT_VERIFY", "SSL_PROTOCOL", "SSL_CIPHER"}
    assert environ["SSL_CLIENT_VERIFY"] == "NONE"


def test_before_the_handshake(files: Files) -> None:
    """Nothing is claimed of a connection that is not yet secured."""
    end = server_context(files.tls()).wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), server_side=True)
    with pytest.raises(ValueError, match="handshake not done yet"):
        client_certificate_environ(end)


def test_foreign_certificate(files: Files) -> None:
    """A certificate of an authority that is not believed ends the handshake."""
    with pytest.raises(ssl.SSLError):
        identified(files, ca=trustme.CA())


def test_required_certificate(files: Files) -> None:
    """A client that shows none, where it must, is refused."""
    tls = files.tls(cert_reqs="required", ca_certs=files.path("ca.pem"))
    with pytest.raises(ssl.SSLError):
        handshake(server_context(tls), client_context(maximum_version=ssl.TLSVersion.TLSv1_2))


# Renewal


def test_reload(files: Files) -> None:
    """New connections see the new certificate; the context of the old ones is not touched."""
    contexts = ServerContexts(files.tls())
    before = contexts.current
    renewed = CA.issue_cert("localhost")
    files.write("cert.pem", *(blob.bytes() for blob in renewed.cert_chain_pems))
    files.write("key.pem", renewed.private_key_pem.bytes())
    contexts.reload()
    shown = [
        handshake(context, client_context())[1].getpeercert(binary_form=True)
        for context in (before, contexts.current)
    ]
    assert shown == [
        ssl.PEM_cert_to_DER_cert(identity.cert_chain_pems[0].bytes().decode())
        for identity in (SERVER, renewed)
    ]


def test_failed_reload(files: Files) -> None:
    """Files that are halfway through their replacement leave the old certificate in use."""
    contexts = ServerContexts(files.tls())
    before = contexts.current
    files.write("key.pem", OTHER.private_key_pem.bytes())
    with pytest.raises(ConfigError, match="is not the key"):
        contexts.reload()
    assert contexts.current is before


def test_sessions_end_with_their_context(files: Files) -> None:
    """A session is resumed under its own context, and begins anew under the next one."""
    contexts = ServerContexts(files.tls())
    client = client_context(maximum_version=ssl.TLSVersion.TLSv1_2)
    session = handshake(contexts.current, client)[1].session
    assert handshake(contexts.current, client, session)[1].session_reused
    contexts.reload()
    assert not handshake(contexts.current, client, session)[1].session_reused
