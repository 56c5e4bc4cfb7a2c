"""The decoding process gives up what it does not need, after its imports and before the first untrusted byte."""

from __future__ import annotations

import ctypes
import fcntl
import io
import os
import platform
import resource
import signal
import struct
import sys

_PR_SET_NO_NEW_PRIVS = 38

# Linux system calls that decoding never makes and a payload would (open, start, connect, rename, delete, trace, kill):
# name, number on x86-64, on aarch64.
_DENIED = """
    open:2: creat:85: openat:257:56 openat2:437:437 truncate:76:45 socket:41:198 connect:42:203 bind:49:200
    listen:50:201 fork:57: vfork:58: execve:59:221 execveat:322:281 kill:62:129 ptrace:101:117 process_vm_readv:310:270
    process_vm_writev:311:271 pidfd_open:434:434 pidfd_getfd:438:438 rename:82: renameat:264:38 renameat2:316:276
    mkdir:83: mkdirat:258:34 rmdir:84: link:86: linkat:265:37 unlink:87: unlinkat:263:35 symlink:88: symlinkat:266:36
    chmod:90: fchmodat:268:53 chown:92: fchownat:260:54 mount:165:40 umount2:166:39 unshare:272:97 setns:308:268
    add_key:248:217 keyctl:250:219 bpf:321:280 userfaultfd:323:282 perf_event_open:298:241 io_uring_setup:425:425
"""
_MACHINES = {"x86_64": (1, 0xC000003E, 317, 56), "aarch64": (2, 0xC00000B7, 277, 220)}
"""Column above, audit architecture, numbers of seccomp and clone."""
_CLONE3 = 435
_CLONE_THREAD = 0x10000


class Descriptor(io.RawIOBase):
    """A read-only file over a descriptor shared with the parent, with a position of its own."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._size = os.fstat(fd).st_size
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        self._position = max(0, base + offset)
        return self._position

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        count = os.preadv(self._fd, [buffer], self._position)
        self._position += count
        return count

    def read(self, size: int = -1) -> bytes:
        # One copy less than RawIOBase.read: libav calls this for every block.
        data = os.pread(self._fd, max(0, self._size - self._position) if size < 0 else size, self._position)
        self._position += len(data)
        return data


def die_with_parent(lifeline: int) -> None:
    """Ends this process when the other end of the pipe `lifeline` closes, whatever it is doing then.

    PR_SET_PDEATHSIG would fire when the *thread* that started this process ends, which kills a decode that one
    thread opens and another reads. The kernel raises SIGIO, whose default action is to end the process.
    """
    signal.signal(signal.SIGIO, signal.SIG_DFL)
    fcntl.fcntl(lifeline, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(lifeline, fcntl.F_SETFL, fcntl.fcntl(lifeline, fcntl.F_GETFL) | os.O_ASYNC | os.O_NONBLOCK)
    try:
        gone = os.read(lifeline, 1) == b""
    except BlockingIOError:
        gone = False
    if gone:  # it ended before the signal was armed
        os._exit(1)


def confine(max_memory_bytes: int, max_cpu_s: float) -> None:
    """Limits memory and CPU, and takes away every way to open a file or a socket or to write one."""
    cpu = max(1, round(max_cpu_s))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CPU, (cpu, cpu + 5))
    resource.setrlimit(resource.RLIMIT_AS, (max_memory_bytes, max_memory_bytes))
    highest = max(int(name) for name in os.listdir("/dev/fd"))  # noqa: PTH208 (a Path would keep its descriptor open)
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 1, highest + 1))
    # With every number below the limit in use, no open() or socket() can succeed again.
    while True:
        try:
            os.dup(0)
        except OSError:
            break
    if sys.platform == "linux":
        _deny_system_calls()


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p))


def _deny_system_calls() -> None:
    """A seccomp filter for all threads; where the kernel has none the limits above still hold.

    Classic BPF over struct seccomp_data (number at 0, architecture at 4, low half of the first argument at 16).
    """
    libc = ctypes.CDLL(None)
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    if platform.machine() not in _MACHINES:
        return
    column, architecture, seccomp, clone = _MACHINES[platform.machine()]
    denied = [int(text) for call in _DENIED.split() if (text := call.split(":")[column])]
    load, equal, greater, bits, answer = 0x20, 0x15, 0x35, 0x45, 0x06
    allow, kill, no_right, no_call = 0x7FFF0000, 0x80000000, 0x00050001, 0x00050026
    program = [(load, 0, 0, 4), (equal, 1, 0, architecture), (answer, 0, 0, kill), (load, 0, 0, 0)]
    program += [(greater, 0, 1, 0x40000000), (answer, 0, 0, no_right)]  # the x32 numbers of the same calls
    program += [(equal, 0, 1, _CLONE3), (answer, 0, 0, no_call)]  # its flags cannot be seen; libc falls back to clone
    for number in denied:
        program += [(equal, 0, 1, number), (answer, 0, 0, no_right)]
    # Threads yes, processes no.
    program += [(equal, 0, 3, clone), (load, 0, 0, 16), (bits, 1, 0, _CLONE_THREAD), (answer, 0, 0, no_right)]
    program += [(answer, 0, 0, allow)]
    code = b"".join(struct.pack("HBBI", *instruction) for instruction in program)
    filter_all_threads, set_filter = 1, 1
    libc.syscall(seccomp, set_filter, filter_all_threads, ctypes.byref(_Program(len(program), code)))
