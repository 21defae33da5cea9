"""Many datagrams with one system call, where the kernel cannot join them.

Most underlays hand on what was sent together as one run (``UDP_GRO``). Where datagrams come one by
one, ``recvmmsg`` takes 64 of them at once into one buffer, each at a multiple of the usual size:
so datagrams of that size lie one after another, just as in a run that the kernel joined.

The standard library has no `recvmmsg`; it is called through ctypes.
"""

from __future__ import annotations

import ctypes
import errno
import os
import socket
from collections.abc import Iterator

_MSG_DONTWAIT = 0x40
_MSG_TRUNC = 0x20
#: Datagrams for each call.
_BATCH = 64
#: Room for the address of either family (struct sockaddr_in6).
_NAME = 28


class _Iovec(ctypes.Structure):
    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))


class _Msghdr(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_void_p),
        ("name_length", ctypes.c_uint),
        ("iov", ctypes.POINTER(_Iovec)),
        ("iov_length", ctypes.c_size_t),
        ("control", ctypes.c_void_p),
        ("control_length", ctypes.c_size_t),
        ("flags", ctypes.c_int),
    )


class _Mmsghdr(ctypes.Structure):
    _fields_ = (("header", _Msghdr), ("length", ctypes.c_uint))


_libc = ctypes.CDLL(None, use_errno=True)
_recvmmsg = _libc.recvmmsg
_recvmmsg.argtypes = (
    ctypes.c_int,
    ctypes.c_void_p,
    ctypes.c_uint,
    ctypes.c_int,
    ctypes.c_void_p,
)


class Batch:
    """A buffer for datagrams of at most `size` bytes.

    Args:
        size: The usual size of datagrams; longer ones are cut, see `truncated`.

    Attributes:
        size: The same.
        truncated: Whether a longer datagram came, so that this batch no longer suits.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.truncated = False
        data = bytearray(_BATCH * size)
        names = bytearray(_BATCH * _NAME)
        self._data = memoryview(data)
        self._names = memoryview(names)
        at_data = ctypes.addressof((ctypes.c_char * len(data)).from_buffer(data))
        at_names = ctypes.addressof((ctypes.c_char * len(names)).from_buffer(names))
        self._vectors = (_Iovec * _BATCH)()
        self._messages = (_Mmsghdr * _BATCH)()
        for number, message in enumerate(self._messages):
            self._vectors[number] = _Iovec(at_data + number * size, size)
            message.header.name = at_names + number * _NAME
            message.header.name_length = _NAME
            message.header.iov = ctypes.pointer(self._vectors[number])
            message.header.iov_length = 1
        fields = memoryview(self._messages).cast("B").cast("I")
        step = ctypes.sizeof(_Mmsghdr) // 4
        self._lengths = fields[_Mmsghdr.length.offset // 4 :: step]
        self._flags = fields[_Msghdr.flags.offset // 4 :: step]
        self._at = ctypes.addressof(self._messages)

    def read(self, sock: socket.socket) -> int:
        """Fill the buffer; returns how many datagrams came.

        Raises:
            BlockingIOError: None waits.
            OSError: What an ICMP message reported about an earlier datagram.
        """
        count: int = _recvmmsg(sock.fileno(), self._at, _BATCH, _MSG_DONTWAIT, None)
        if count < 0:
            code = ctypes.get_errno()
            if code == errno.EAGAIN:
                raise BlockingIOError
            raise OSError(code, os.strerror(code))
        return count

    def runs(self, count: int) -> Iterator[tuple[bytes, memoryview, int]]:
        """What the last call read: the address, the datagrams, and the size of all but the last."""
        size, data, names = self.size, self._data, self._names
        lengths = self._lengths[:count].tolist()
        if max(self._flags[:count].tolist()) & _MSG_TRUNC:
            self.truncated = True
        begin = 0
        same = names[: count * _NAME] == bytes(names[:_NAME]) * count
        for number, length in enumerate(lengths):
            last = number == count - 1
            if (
                last
                or length != size
                or not (
                    same
                    or names[number * _NAME : (number + 1) * _NAME]
                    == names[(number + 1) * _NAME : (number + 2) * _NAME]
                )
            ):
                run = data[begin * size : number * size + length]
                if run:
                    address = bytes(names[begin * _NAME : (begin + 1) * _NAME])
                    yield address, run, min(size, len(run))
                begin = number + 1
