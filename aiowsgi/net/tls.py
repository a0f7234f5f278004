"""TLS: contexts made from files and replaced when these change; client certificates as environ.

Only certificates and settings live here; accepting, handshakes and what to do with a client that
speaks no TLS are ``connection/handshake.py``'s. The ``ssl`` module is imported when the first
context is made: a Python without OpenSSL can serve plain HTTP.

**Renewal.** `ServerContexts` makes a whole new context and hands it to new connections; a
connection keeps the context that it began with. The alternatives were weighed: loading new files
into the old context leaves its session tickets valid, so that a client whose authority was just
removed resumes its session unchecked; and swapping contexts in ``sni_callback`` does not carry over
the settings of client verification, nor does it run for a client that sends no server name.

**Policy.** TLS 1.2 and 1.3, forward secrecy and authenticated encryption only (RFC 9325 section
4.2), no compression (RFC 9325 section 3.3), no renegotiation (section 3.5), ALPN ``http/1.1``
(RFC 7301).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple, NoReturn

from aiowsgi.exceptions import ConfigError

if TYPE_CHECKING:
    import ssl

__all__ = ["ServerContexts", "TLSFiles", "client_certificate_environ", "server_context"]

_CIPHERS_TLS12: Final = "ECDHE+AESGCM:ECDHE+CHACHA20"
"""OpenSSL's words; the suites of TLS 1.3 are all acceptable and are not governed by them."""

_CERT_REQS: Final = {
    "none": "CERT_NONE",
    "optional": "CERT_OPTIONAL",
    "required": "CERT_REQUIRED",
    # The numbers of ssl.VerifyMode, which gunicorn and uvicorn take.
    "0": "CERT_NONE",
    "1": "CERT_OPTIONAL",
    "2": "CERT_REQUIRED",
}


class TLSFiles(NamedTuple):
    """The options that make a context, as the operator gives them."""

    certfile: str
    """PEM: the server's certificate, then those between it and a root."""
    keyfile: str | None = None
    """PEM, not encrypted; None: the key stands in ``certfile``."""
    ca_certs: str | None = None
    """PEM: the authorities whose client certificates are believed."""
    cert_reqs: str | int = "none"
    """Client certificates: ``none``, ``optional``, ``required``, or 0, 1, 2."""


def server_context(files: TLSFiles) -> ssl.SSLContext:
    """Read the files and make a context for accepting connections.

    Raises ConfigError, whose message names the option and the file at fault.
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
    """The context for new connections, replaceable while the server runs."""

    def __init__(self, files: TLSFiles) -> None:
        """Read the files; raises ConfigError like `server_context`."""
        self._files = files
        self.current = server_context(files)
        """For every connection accepted from now on; replaced by `reload`, never altered."""

    def reload(self) -> None:
        """Read the files again. On ConfigError the context before stays in use."""
        self.current = server_context(self._files)


# Files


def _load_certificate(context: ssl.SSLContext, files: TLSFiles) -> None:
    import ssl

    option, key = ("keyfile", files.keyfile) if files.keyfile else ("certfile", files.certfile)
    _require("certfile", files.certfile, b"CERTIFICATE-----", "certificate")
    _require(option, key, b"PRIVATE KEY-----", "private key")

    def refuse_password() -> NoReturn:
        # Without this, OpenSSL asks on the terminal and the start hangs.
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
    """Find the plain mistakes first: OpenSSL's errors do not say which file they mean."""
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
"""OpenSSL's short names, which mod_ssl prints; an attribute without one keeps its long name."""

_Name = tuple[tuple[tuple[str, str], ...], ...]
"""A distinguished name as `ssl.SSLObject.getpeercert` gives it: a sequence of attribute sets."""


def client_certificate_environ(ssl_object: ssl.SSLObject) -> dict[str, str]:
    """Describe a TLS connection in the variables of Apache's mod_ssl, as PEP 3333 strings.

    ``ssl_object`` is what a transport's ``get_extra_info("ssl_object")`` gives after the handshake.
    The answer holds for the whole connection: there is no renegotiation. ``SSL_CLIENT_VERIFY`` is
    ``SUCCESS`` or ``NONE``; a certificate that does not verify never gets past the handshake.
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
    """RFC 4514: the last attribute first, special characters escaped; UTF-8 as PEP 3333 has it."""
    parts = (
        "+".join(f"{_SHORT_NAMES.get(kind, kind)}={_escape(value)}" for kind, value in attributes)
        for attributes in reversed(name)
    )
    return ",".join(parts).encode().decode("latin-1")


def _escape(value: str) -> str:
    """RFC 4514 section 2.4. A value must not be able to pose as a second attribute."""
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
