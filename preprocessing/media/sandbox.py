"""The decoding process gives up what it does not need, after its imports and before the first untrusted byte."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import io
import os
import platform
import resource
import signal
import struct
import sys

_PR_GET_SECCOMP = 21
_PR_SET_NO_NEW_PRIVS = 38

# Linux system calls that decoding never makes and a payload would (open, start, connect, rename, delete, trace, signal,
# change rights, slow down or listen to other processes; and what only root may): name, number on x86-64, on aarch64.
_DENIED = """
    open:2: creat:85: openat:257:56 openat2:437:437 open_by_handle_at:304:265 truncate:76:45 mknod:133: mknodat:259:33
    mkdir:83: mkdirat:258:34 rmdir:84: link:86: linkat:265:37 unlink:87: unlinkat:263:35 symlink:88: symlinkat:266:36
    rename:82: renameat:264:38 renameat2:316:276 chmod:90: fchmod:91:52 fchmodat:268:53 fchmodat2:452:452 chown:92:
    fchown:93:55 lchown:94: fchownat:260:54 utime:132: utimes:235: futimesat:261: utimensat:280:88 setxattr:188:5
    lsetxattr:189:6 fsetxattr:190:7 setxattrat:463:463 removexattr:197:14 lremovexattr:198:15 fremovexattr:199:16
    removexattrat:466:466 file_setattr:469:469 socket:41:198 connect:42:203 bind:49:200 listen:50:201 fork:57:
    vfork:58: execve:59:221 execveat:322:281 kill:62:129 tkill:200:130 rt_sigqueueinfo:129:138
    rt_tgsigqueueinfo:297:240 pidfd_open:434:434 pidfd_getfd:438:438 pidfd_send_signal:424:424 ptrace:101:117
    process_vm_readv:310:270 process_vm_writev:311:271 process_madvise:440:440 process_mrelease:448:448 kcmp:312:272
    migrate_pages:256:238 move_pages:279:239 setrlimit:160:164 setpriority:141:140 ioprio_set:251:30
    sched_setparam:142:118 sched_setscheduler:144:119 sched_setaffinity:203:122 sched_setattr:314:274 shmget:29:194
    shmat:30:196 shmctl:31:195 semget:64:190 semctl:66:191 msgget:68:186 msgctl:71:187 mq_open:240:180
    mq_unlink:241:181 mount:165:40 umount2:166:39 open_tree:428:428 move_mount:429:429 fsopen:430:430 fsmount:432:432
    fspick:433:433 mount_setattr:442:442 pivot_root:155:41 chroot:161:51 unshare:272:97 setns:308:268 swapon:167:224
    swapoff:168:225 acct:163:89 quotactl:179:60 quotactl_fd:443:443 sethostname:170:161 setdomainname:171:162
    settimeofday:164:170 clock_settime:227:112 adjtimex:159:171 clock_adjtime:305:266 syslog:103:116 iopl:172:
    ioperm:173: reboot:169:142 kexec_load:246:104 kexec_file_load:320:294 init_module:175:105 finit_module:313:273
    delete_module:176:106 add_key:248:217 request_key:249:218 keyctl:250:219 bpf:321:280 userfaultfd:323:282
    perf_event_open:298:241 fanotify_init:300:262 io_uring_setup:425:425
"""
_OWN_ONLY = "tgkill:234:131 prlimit64:302:261"
"""Allowed to this process about itself: abort() and threads signal themselves, libc asks for limits (and sets none)."""
_SIGNAL_OWNERS = (("fcntl:72:25", (8, 10, 15)), ("ioctl:16:29", (0x8901, 0x8902)))
"""F_SETOWN, F_SETSIG, F_SETOWN_EX; FIOSETOWN, SIOCSPGRP: by these a descriptor sends any signal to any process."""
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


def _filter(machine: str, own: int) -> list[tuple[int, int, int, int]]:
    """Classic BPF over struct seccomp_data: number at 0, architecture at 4, low half of argument n at 16 + 8 n."""
    column, architecture, _, clone = _MACHINES[machine]

    def numbers(calls: str) -> list[int]:
        return [int(text) for call in calls.split() if (text := call.split(":")[column])]

    load, equal, greater, bits, answer = 0x20, 0x15, 0x35, 0x45, 0x06
    allow, kill, no_right, no_call = 0x7FFF0000, 0x80000000, 0x00050001, 0x00050026
    program = [(load, 0, 0, 4), (equal, 1, 0, architecture), (answer, 0, 0, kill), (load, 0, 0, 0)]
    program += [(greater, 0, 1, 0x40000000), (answer, 0, 0, no_right)]  # the x32 numbers of the same calls
    program += [(equal, 0, 1, _CLONE3), (answer, 0, 0, no_call)]  # its flags cannot be seen; libc falls back to clone
    for number in numbers(_DENIED):
        program += [(equal, 0, 1, number), (answer, 0, 0, no_right)]
    tgkill, prlimit64 = numbers(_OWN_ONLY)
    program += [(equal, 0, 4, prlimit64), (load, 0, 0, 32), (equal, 0, 6, 0), (load, 0, 0, 36), (equal, 1, 4, 0)]
    program += [(equal, 0, 5, tgkill), (load, 0, 0, 16), (equal, 2, 0, 0), (equal, 1, 0, own)]  # 0 is itself as well
    program += [(answer, 0, 0, no_right), (answer, 0, 0, allow)]
    for call, commands in _SIGNAL_OWNERS:
        program += [(equal, 0, 3 + len(commands), numbers(call)[0]), (load, 0, 0, 24)]
        program += [(equal, len(commands) - i, 0, command) for i, command in enumerate(commands)]
        program += [(answer, 0, 0, allow), (answer, 0, 0, no_right)]
    # Threads yes, processes no.
    program += [(equal, 0, 3, clone), (load, 0, 0, 16), (bits, 1, 0, _CLONE_THREAD), (answer, 0, 0, no_right)]
    return [*program, (answer, 0, 0, allow)]


def _deny_system_calls() -> None:
    """A seccomp filter for all threads; where there is none (process.filters_calls tells) the limits above still hold.

    Raises OSError where there are filters and this one could not be set: no byte is decoded then.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    if platform.machine() not in _MACHINES:
        return
    program = _filter(platform.machine(), os.getpid())
    code = b"".join(struct.pack("HBBI", *instruction) for instruction in program)
    filter_all_threads, set_filter = 1, 1
    seccomp = _MACHINES[platform.machine()][2]
    failed = libc.syscall(seccomp, set_filter, filter_all_threads, ctypes.byref(_Program(len(program), code)))
    if failed and (number := ctypes.get_errno()) not in (errno.ENOSYS, errno.EINVAL):  # these two: a kernel without
        raise OSError(number, "the filter of system calls could not be set")


# Run by process.filters_calls: exit 0 where the filter holds here.
if __name__ == "__main__":
    if sys.platform == "linux":
        _deny_system_calls()
    filtered = 2
    sys.exit(0 if sys.platform == "linux" and ctypes.CDLL(None).prctl(_PR_GET_SECCOMP) == filtered else 1)
