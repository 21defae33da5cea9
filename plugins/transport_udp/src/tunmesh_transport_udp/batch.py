"""Many datagrams with one system call, where the kernel cannot join them.

Most underlays hand on what was sent together as one run (``UDP_GRO``). Where datagrams come one by
one, ``recvmmsg`` takes 64 of them at once into one buffer, each at a multiple of the usual size:
so datagrams of that size lie one after another, just as in a run that the kernel joined. What is
longer than usual goes to a second buffer, for a few such come at any time: they probe the path.

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
#: Bytes of a datagram beyond the usual ones.
_SPILL = 2048
#: More datagrams than this beyond the usual size in one call: it is no longer the usual one.
_FEW = 8
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
    """A buffer for datagrams of usually `size` bytes.

    Args:
        size: The usual size of datagrams. Much longer ones are cut.

    Attributes:
        size: The same.
        outgrown: Whether so many, or so much longer ones came that this batch no longer suits.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.outgrown = False
        data = bytearray(_BATCH * size)
        spill = bytearray(_BATCH * _SPILL)
        names = bytearray(_BATCH * _NAME)
        self._data = memoryview(data)
        self._spill = memoryview(spill)
        self._names = memoryview(names)
        at_data = ctypes.addressof((ctypes.c_char * len(data)).from_buffer(data))
        at_spill = ctypes.addressof((ctypes.c_char * len(spill)).from_buffer(spill))
        at_names = ctypes.addressof((ctypes.c_char * len(names)).from_buffer(names))
        self._vectors = (_Iovec * (2 * _BATCH))()
        self._messages = (_Mmsghdr * _BATCH)()
        for number, message in enumerate(self._messages):
            self._vectors[2 * number] = _Iovec(at_data + number * size, size)
            self._vectors[2 * number + 1] = _Iovec(at_spill + number * _SPILL, _SPILL)
            message.header.name = at_names + number * _NAME
            message.header.name_length = _NAME
            message.header.iov = ctypes.pointer(self._vectors[2 * number])
            message.header.iov_length = 2
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
        longest = max(lengths)
        if longest > size:
            truncated = max(self._flags[:count].tolist()) & _MSG_TRUNC
            self.outgrown = bool(truncated) or sum(length > size for length in lengths) > _FEW
        begin = 0
        same = names[: count * _NAME] == bytes(names[:_NAME]) * count
        for number, length in enumerate(lengths):
            if length > size:
                if begin < number:
                    yield self._address(begin), data[begin * size : number * size], size
                yield self._address(number), self._long(number, length), length
                begin = number + 1
                continue
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
                    yield self._address(begin), run, min(size, len(run))
                begin = number + 1

    def _address(self, number: int) -> bytes:
        return bytes(self._names[number * _NAME : (number + 1) * _NAME])

    def _long(self, number: int, length: int) -> memoryview:
        """A datagram of more than the usual size, in one piece."""
        begin, spilled = number * self.size, number * _SPILL
        rest = self._spill[spilled : spilled + length - self.size]
        return memoryview(b"".join((self._data[begin : begin + self.size], rest)))
