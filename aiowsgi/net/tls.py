"""Creates TLS contexts from files, and the environ variables of a TLS connection.

Accepting, handshakes, and clients that do not speak TLS belong to ``connection/handshake.py``. The
``ssl`` module is imported when the first context is created, so that a Python without OpenSSL can
serve plain HTTP.

**Renewal.** `ServerContexts` creates a whole new context for new connections; existing connections
keep theirs. The alternatives are worse. Loading new files into the existing context leaves its
session tickets valid, so that a client whose authority was removed could resume its session.
Switching contexts in ``sni_callback`` does not apply the new context's client verification, and the
callback does not run for a client that sends no server name.

**Policy.** TLS 1.2 and 1.3, forward secrecy and authenticated encryption only (RFC 9325 section
4.2), no compression (section 3.3), no renegotiation (section 3.5), ALPN ``http/1.1`` (RFC 7301).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple, NoReturn

from aiowsgi.exceptions import ConfigError
from aiowsgi.net.certificate import certificate_expiry

if TYPE_CHECKING:
    import ssl

__all__ = ["ServerContexts", "TLSFiles", "client_certificate_environ", "server_context"]

_CIPHERS_TLS12: Final = "ECDHE+AESGCM:ECDHE+CHACHA20"
"""OpenSSL's cipher list for TLS 1.2; all suites of TLS 1.3 are acceptable and not affected."""

_CERT_REQS: Final = {
    "none": "CERT_NONE",
    "optional": "CERT_OPTIONAL",
    "required": "CERT_REQUIRED",
    # The numbers of ssl.VerifyMode, which gunicorn and uvicorn accept.
    "0": "CERT_NONE",
    "1": "CERT_OPTIONAL",
    "2": "CERT_REQUIRED",
}


class TLSFiles(NamedTuple):
    """The options from which a context is created."""

    certfile: str
    """PEM file: the server's certificate, followed by intermediate certificates."""
    keyfile: str | None = None
    """PEM file, not encrypted; None: the key is in ``certfile``."""
    ca_certs: str | None = None
    """PEM file: the authorities that may sign client certificates."""
    cert_reqs: str | int = "none"
    """Client certificates: ``none``, ``optional``, ``required``, or 0, 1, 2."""


def server_context(files: TLSFiles) -> ssl.SSLContext:
    """Read the files and create a context for accepting connections.

    Raises ConfigError; the message names the option and the file.
    """
    import ssl

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    context.set_ciphers(_CIPHERS_TLS12)
    context.set_alpn_protocols(["http/1.1"])
    _load_certificate(context, files)
    _load_authorities(context, files)
    return context


class ServerContexts:
    """Holds the context for new connections; it can be replaced while the server runs."""

    def __init__(self, files: TLSFiles) -> None:
        """Read the files; raises ConfigError like `server_context`."""
        self._files = files
        self.current = server_context(files)
        """The context of new connections; `reload` replaces it and never changes it."""
        self.expires_at = certificate_expiry(files.certfile)
        """When the server's certificate expires, seconds since the epoch; 0.0 if not known."""

    def reload(self) -> None:
        """Read the files again. After a ConfigError the previous context stays in use."""
        self.current = server_context(self._files)
        self.expires_at = certificate_expiry(self._files.certfile)


# Files


def _load_certificate(context: ssl.SSLContext, files: TLSFiles) -> None:
    import ssl

    option, key = ("keyfile", files.keyfile) if files.keyfile else ("certfile", files.certfile)
    _require("certfile", files.certfile, b"CERTIFICATE-----", "certificate")
    _require(option, key, b"PRIVATE KEY-----", "private key")

    def refuse_password() -> NoReturn:
        # Without a callback, OpenSSL would ask for the password on the terminal.
        raise ConfigError(f"{option}: {key!r} is encrypted; write it without a password")

    try:
        context.load_cert_chain(files.certfile, key, refuse_password)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise ConfigError(
                f"{option}: {key!r} is not the key of the certificate in {files.certfile!r}"
            ) from error
        raise ConfigError(
            f"certfile: cannot use {files.certfile!r} with {key!r}: {_words(error)}"
        ) from error


def _load_authorities(context: ssl.SSLContext, files: TLSFiles) -> None:
    import ssl

    mode = _CERT_REQS.get(str(files.cert_reqs).lower())
    if mode is None:
        raise ConfigError(f"cert_reqs: {files.cert_reqs!r} is not none, optional or required")
    context.verify_mode = ssl.VerifyMode[mode]
    if files.ca_certs is None:
        if context.verify_mode is not ssl.CERT_NONE:
            raise ConfigError(f"cert_reqs: {files.cert_reqs!r} needs ca_certs")
        return
    _require("ca_certs", files.ca_certs, b"CERTIFICATE-----", "certificate")
    try:
        context.load_verify_locations(files.ca_certs)
    except ssl.SSLError as error:
        raise ConfigError(f"ca_certs: cannot use {files.ca_certs!r}: {_words(error)}") from error


def _require(option: str, path: str, label: bytes, what: str) -> None:
    """Check for simple mistakes: OpenSSL's errors do not name the file."""
    try:
        with open(path, "rb") as file:
            content = file.read()
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise ConfigError(f"{option}: cannot read {path!r}: {reason}") from error
    if label not in content:
        raise ConfigError(f"{option}: {path!r} holds no {what} in PEM form")


def _words(error: ssl.SSLError) -> str:
    return (error.reason or str(error)).replace("_", " ").lower()


# Client certificates

_SHORT_NAMES: Final = {
    "commonName": "CN",
    "countryName": "C",
    "domainComponent": "DC",
    "givenName": "GN",
    "localityName": "L",
    "organizationName": "O",
    "organizationalUnitName": "OU",
    "stateOrProvinceName": "ST",
    "streetAddress": "street",
    "surname": "SN",
    "userId": "UID",
}
"""OpenSSL's short names, which mod_ssl uses; an attribute without one keeps its long name."""

_Name = tuple[tuple[tuple[str, str], ...], ...]
"""A distinguished name in the form of `ssl.SSLObject.getpeercert`: a sequence of attribute sets."""


def client_certificate_environ(ssl_object: ssl.SSLObject) -> dict[str, str]:
    """Return the variables of Apache's mod_ssl for a TLS connection, as PEP 3333 strings.

    ``ssl_object`` is the transport's ``get_extra_info("ssl_object")`` after the handshake. The
    result is valid for the whole connection, because renegotiation is off. ``SSL_CLIENT_VERIFY`` is
    ``SUCCESS`` or ``NONE``; the handshake fails if a certificate is not valid.
    """
    cipher = ssl_object.cipher()
    environ = {
        "SSL_PROTOCOL": ssl_object.version() or "",
        "SSL_CIPHER": cipher[0] if cipher else "",
        "SSL_CLIENT_VERIFY": "NONE",
    }
    certificate = ssl_object.getpeercert()
    if certificate:
        der = ssl_object.getpeercert(binary_form=True)
        environ.update(_certificate_environ(dict(certificate), der or b""))
    return environ


def _certificate_environ(facts: dict[str, Any], der: bytes) -> dict[str, str]:
    import ssl

    return {
        "SSL_CLIENT_VERIFY": "SUCCESS",
        "SSL_CLIENT_S_DN": _distinguished_name(facts["subject"]),
        "SSL_CLIENT_I_DN": _distinguished_name(facts["issuer"]),
        "SSL_CLIENT_M_SERIAL": facts["serialNumber"],
        "SSL_CLIENT_V_START": facts["notBefore"],
        "SSL_CLIENT_V_END": facts["notAfter"],
        "SSL_CLIENT_CERT": ssl.DER_cert_to_PEM_cert(der),
    }


def _distinguished_name(name: _Name) -> str:
    """Format a name by RFC 4514: the last attribute first, special characters escaped; UTF-8 as a
    PEP 3333 string."""
    parts = (
        "+".join(f"{_SHORT_NAMES.get(kind, kind)}={_escape(value)}" for kind, value in attributes)
        for attributes in reversed(name)
    )
    return ",".join(parts).encode().decode("latin-1")


def _escape(value: str) -> str:
    """Escape a value (RFC 4514 section 2.4), so that it cannot look like a second attribute."""
    escaped = "".join(_escape_character(character) for character in value)
    if escaped.startswith(("#", " ")):
        escaped = f"\\{escaped}"
    if escaped.endswith(" ") and len(value) > 1:
        escaped = f"{escaped[:-1]}\\ "
    return escaped


def _escape_character(character: str) -> str:
    if character in '",+;<>\\':
        return f"\\{character}"
    if ord(character) < 0x20 or character == "\x7f":
        return f"\\{ord(character):02X}"
    return character
