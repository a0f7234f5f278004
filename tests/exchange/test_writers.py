"""Ports: what the kernel and transports are asked for, and what their answers become."""

from __future__ import annotations

import errno
import os
import socket
from contextlib import suppress

import pytest
from support import PATIENCE, no_descriptor_leaks

from aiowsgi.exchange.writers import FILE_PIECE, READ_SIZE, SocketWriter, TransportWriter
from aiowsgi.wsgi.file_wrapper import FileRange


@pytest.fixture
def pair():
    """Two connected stream sockets; the first has a small buffer."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        yield ours, theirs


def test_a_socket_port_outlives_the_transports_socket(pair):
    """The duplicate sends when the transport's descriptor is closed, and may be another's."""
    ours, theirs = pair
    with no_descriptor_leaks():
        port = SocketWriter(ours)
        assert port.fileno() != ours.fileno()
        port.send((b"one ",))
        ours.close()
        other = socket.socket()
        port.send((b"two ", b"three"))
        assert theirs.recv(100) == b"one two three"
        other.close()
        port.close()
        ours = socket.socket()
    assert theirs.recv(1) == b""
    with pytest.raises(OSError, match="Bad file descriptor"):
        port.send((b"x",))
    ours.close()


def test_a_socket_port_leaves_no_descriptor_where_it_cannot_be_made(pair, monkeypatch):
    """Should the socket object fail, the duplicate is closed."""

    def fail(*args):
        raise MemoryError

    monkeypatch.setattr(socket, "socket", fail)
    with no_descriptor_leaks(), pytest.raises(MemoryError):
        SocketWriter(pair[0])


def test_a_socket_port_receives_what_there_is(pair):
    """Into the front of a buffer, without a wait, though the socket may be a blocking one."""
    ours, theirs = pair
    ours.setblocking(True)
    port, buffer = SocketWriter(ours), bytearray(b"....")
    with pytest.raises(BlockingIOError):
        port.receive_into(memoryview(buffer))
    theirs.send(b"abcdef")
    assert port.receive_into(memoryview(buffer)[:3]) == 3
    assert port.receive_into(memoryview(buffer)) == 3
    assert buffer == b"def."
    theirs.close()
    assert port.receive_into(memoryview(buffer)) == 0
    port.close()


@pytest.mark.parametrize("buffers", [(b"x" * 100_000,), (b"x" * 60_000, b"y" * 60_000)])
def test_a_full_socket_takes_a_part_and_then_nothing(pair, buffers):
    """A send never waits, though the socket may be a blocking one."""
    ours, _ = pair
    ours.setblocking(True)
    port = SocketWriter(ours)
    assert 0 < port.send(buffers) < sum(map(len, buffers))
    with suppress(BlockingIOError):
        while port.send(buffers):
            pass
    with pytest.raises(BlockingIOError):
        port.send(buffers)
    port.close()


def test_a_socket_whose_client_has_gone_is_an_error_and_no_signal(pair):
    """EPIPE is raised; SIGPIPE, which would end a program that asked for it, is not sent."""
    ours, theirs = pair
    port = SocketWriter(ours)
    theirs.close()
    with pytest.raises(BrokenPipeError):
        port.send((b"x",))
    port.close()


def test_more_to_follow_is_sent_with_what_follows(tmp_path, file):
    """A head that is followed by a file waits for it, so that both leave in one packet."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ours = socket.create_connection(listener.getsockname())
        theirs, _ = listener.accept()
    with ours, theirs:
        port = SocketWriter(ours)
        port.send((b"head",), more=True)
        theirs.setblocking(False)
        with pytest.raises(BlockingIOError):
            theirs.recv(100)
        theirs.setblocking(True)
        assert port.send_file(FileRange(file.fileno(), 7, 3)) == 3
        assert theirs.recv(100, socket.MSG_WAITALL | socket.MSG_DONTWAIT) == b"head789"
        port.close()


def test_a_file_is_sent_in_bounded_pieces(pair, monkeypatch):
    """One call sends at most `FILE_PIECE`."""
    port = SocketWriter(pair[0])
    monkeypatch.setattr(os, "sendfile", lambda to, file, offset, size: size)
    assert port.send_file(FileRange(0, 3, 7)) == 7
    assert port.send_file(FileRange(0, 3, FILE_PIECE + 1)) == FILE_PIECE
    port.close()


def test_a_file_is_sent_from_its_offset(pair, file):
    """The file's own position stays where it is; behind its end there is nothing."""
    ours, theirs = pair
    port = SocketWriter(ours)
    assert port.send_file(FileRange(file.fileno(), 3, 4)) == 4
    assert theirs.recv(100) == b"3456"
    assert port.send_file(FileRange(file.fileno(), 7, 2)) == 2
    assert port.send_file(FileRange(file.fileno(), 10, 5)) == 0
    assert file.tell() == 0
    port.close()


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM])
def test_a_file_that_the_kernel_does_not_send_is_read_and_sent(pair, file, monkeypatch, number):
    """If sendfile() is refused, the file is read and sent in bounded pieces."""

    def refuse(*_):
        raise OSError(number, os.strerror(number))

    sizes, pread = [], os.pread

    def read(descriptor, size, offset):
        sizes.append(size)
        return pread(descriptor, size, offset)

    monkeypatch.setattr(os, "sendfile", refuse)
    monkeypatch.setattr(os, "pread", read)
    ours, theirs = pair
    port = SocketWriter(ours)
    assert port.send_file(FileRange(file.fileno(), 3, READ_SIZE + 1)) == 7
    assert sizes == [READ_SIZE]
    assert theirs.recv(100) == b"3456789"
    assert port.send_file(FileRange(file.fileno(), 7, 2)) == 2
    assert port.send_file(FileRange(file.fileno(), 10, 5)) == 0
    port.close()


@pytest.mark.parametrize("number", [errno.EPIPE, errno.ECONNRESET, errno.EIO])
def test_other_errors_of_sendfile_are_raised(pair, file, monkeypatch, number):
    """Errors of the connection or of the disk are not hidden."""

    def fail(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "sendfile", fail)
    port = SocketWriter(pair[0])
    with pytest.raises(OSError, match=os.strerror(number)):
        port.send_file(FileRange(file.fileno(), 3, 7))
    port.close()


class FakeTransport:
    """A transport that keeps what it is given."""

    def __init__(self):
        self.taken = b""
        self.closing = False

    def write(self, data):
        self.taken += data

    def writelines(self, buffers):
        self.taken += b"".join(buffers)

    def is_closing(self):
        return self.closing


def test_a_transport_port_hands_everything_on(file):
    """The transport's buffer takes all of it; files are read in bounded pieces."""
    transport = FakeTransport()
    port = TransportWriter(transport)
    assert port.send((b"abc", memoryview(b"def"))) == 6
    assert port.send_file(FileRange(file.fileno(), 2, 3)) == 3
    assert port.send_file(FileRange(file.fileno(), 10, 3)) == 0
    assert transport.taken == b"abcdef234"
    port.close()


@pytest.mark.parametrize("send", ["send", "send_file"])
def test_a_transport_port_takes_nothing_while_paused_or_closing(send, file):
    """A congested transport is like a full socket, a closing one like a broken connection."""
    transport = FakeTransport()
    port = TransportWriter(transport)
    argument = (b"x",) if send == "send" else FileRange(file.fileno(), 0, 3)
    port.paused = True
    with pytest.raises(BlockingIOError):
        getattr(port, send)(argument)
    port.paused = False
    transport.closing = True
    with pytest.raises(ConnectionResetError):
        getattr(port, send)(argument)
    assert transport.taken == b""


def test_a_descriptor_given_to_another_is_never_sent_on(pair):
    """After a close, the number belongs to somebody else, and a late send does not reach it."""
    ours, _ = pair
    port = SocketWriter(ours)
    number = port.fileno()
    port.close()
    reader, writer = os.pipe()
    other, theirs = socket.socketpair()
    with other, theirs:
        assert number in (reader, writer, other.fileno(), theirs.fileno())
        with pytest.raises(OSError, match="Bad file descriptor"):
            port.send((b"x",))
        theirs.setblocking(False)
        with pytest.raises(BlockingIOError):
            theirs.recv(1)
    os.close(reader)
    os.close(writer)


def test_a_transport_is_not_waited_for():
    """A transport is the event loop's, which must not wait: there is no room at once or none."""
    assert not TransportWriter(object()).wait(PATIENCE)
