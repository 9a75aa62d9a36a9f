"""
System calls: which a jailed process is refused, and how the kernel is told.

A filter for seccomp, written by hand: a list of instructions that the kernel runs
before each system call of this process and of whatever it starts.  A call that is
refused fails with EPERM, like one for which the right is missing, so that a library
that can do without it does.  A call of another architecture's table ends the
process: there the same numbers mean something else.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
from collections.abc import Callable, Iterator
from functools import cache

# name: number on x86_64, number on aarch64; None where there is no such call.
REFUSED: dict[str, tuple[int | None, int | None]] = {
    # No connection to anywhere, by no family of addresses.
    "socket": (41, 198),
    "socketpair": (53, 199),
    "bind": (49, 200),
    "listen": (50, 201),
    "accept": (43, 202),
    "accept4": (288, 242),
    "connect": (42, 203),
    "sendto": (44, 206),
    "sendmsg": (46, 211),
    "sendmmsg": (307, 269),
    # No look into other processes, and no hand on them.
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "process_madvise": (440, 440),
    "process_mrelease": (448, 448),
    "pidfd_getfd": (438, 438),
    "kcmp": (312, 272),
    "move_pages": (279, 239),
    "migrate_pages": (256, 238),
    "setpriority": (141, 140),
    "sched_setparam": (142, 118),
    "sched_setscheduler": (144, 119),
    "sched_setattr": (314, 274),
    "ioprio_set": (251, 30),
    # No way out of the group that is killed with this process.
    "setsid": (112, 157),
    "setpgid": (109, 154),
    # No other user, owner, mode or time of a file: Landlock does not see to that.
    "setuid": (105, 146),
    "setgid": (106, 144),
    "setreuid": (113, 145),
    "setregid": (114, 143),
    "setresuid": (117, 147),
    "setresgid": (119, 149),
    "setgroups": (116, 159),
    "setfsuid": (122, 151),
    "setfsgid": (123, 152),
    "capset": (126, 91),
    "chmod": (90, None),
    "fchmod": (91, 52),
    "fchmodat": (268, 53),
    "fchmodat2": (452, 452),
    "chown": (92, None),
    "fchown": (93, 55),
    "lchown": (94, None),
    "fchownat": (260, 54),
    "setxattr": (188, 5),
    "lsetxattr": (189, 6),
    "fsetxattr": (190, 7),
    "setxattrat": (463, 463),
    "removexattr": (197, 14),
    "lremovexattr": (198, 15),
    "fremovexattr": (199, 16),
    "removexattrat": (466, 466),
    "file_setattr": (469, 469),
    "utime": (132, None),
    "utimes": (235, None),
    "futimesat": (261, None),
    "utimensat": (280, 88),
    # No parts of the kernel that documents have no use for and attacks have.
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "userfaultfd": (323, 282),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
    "personality": (135, 92),
    "modify_ldt": (154, None),
    "iopl": (172, None),
    "ioperm": (173, None),
    # No news of what happens in folders: they would name others' new files.
    "inotify_init": (253, None),
    "inotify_init1": (294, 26),
    "inotify_add_watch": (254, 27),
    "fanotify_init": (300, 262),
    "fanotify_mark": (301, 263),
    # No memory that the limit of address space does not count.
    "memfd_create": (319, 279),
    "memfd_secret": (447, 447),
    "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265),
    "shmget": (29, 194),
    "shmat": (30, 196),
    "semget": (64, 190),
    "msgget": (68, 186),
    "mq_open": (240, 180),
    # Nothing that is the administrator's.
    "unshare": (272, 97),
    "setns": (308, 268),
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "open_tree": (428, 428),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fspick": (433, 433),
    "mount_setattr": (442, 442),
    "open_tree_attr": (467, 467),
    "statmount": (457, 457),
    "listmount": (458, 458),
    "swapon": (167, 224),
    "swapoff": (168, 225),
    "quotactl": (179, 60),
    "quotactl_fd": (443, 443),
    "sync": (162, 81),
    "acct": (163, 89),
    "reboot": (169, 142),
    "kexec_load": (246, 104),
    "kexec_file_load": (320, 294),
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "delete_module": (176, 106),
    "syslog": (103, 116),
    "settimeofday": (164, 170),
    "clock_settime": (227, 112),
    "adjtimex": (159, 171),
    "clock_adjtime": (305, 266),
    "sethostname": (170, 161),
    "setdomainname": (171, 162),
    "vhangup": (153, 58),
}
# Looked at more closely.
CLONE = (56, 220)
CLONE3 = (435, 435)
PRLIMIT64 = (302, 261)
CLONE_THREAD = 0x00010000
NAMESPACES = 0x7E020080  # CLONE_NEW*, of all kinds

# What the jail itself calls, which no C library wraps.
OURS = {
    "landlock_create_ruleset": 444,
    "landlock_add_rule": 445,
    "landlock_restrict_self": 446,
    "move_mount": 429,
    "fsopen": 430,
    "fsconfig": 431,
    "fsmount": 432,
}

AUDIT_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
X32 = 0x40000000  # numbers from here are of x86_64's 32-bit cousin
PR_SET_SECCOMP = 22
PR_SET_NO_NEW_PRIVS = 38
SECCOMP_MODE_FILTER = 2

# Instructions of the classic BPF: load a word, jump, return.
LOAD, JUMP_EQUAL, JUMP_FROM, JUMP_SET, RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
AT_NUMBER, AT_ARCH, AT_FIRST = 0, 4, 16  # offsets in `struct seccomp_data`
ALLOW = 0x7FFF0000
KILL = 0x80000000
ERROR = 0x00050000

Instruction = tuple[int, int, int, int]  # code, jump if true, if false, value


def restrict() -> None:
    """
    Refuse, from now on and for every process started, what is in `REFUSED`.

    Raises:
        OSError: the kernel has no seccomp, or this is another architecture.
    """
    load(compiled())


def filters() -> None:
    """
    Ask for a filter from nowhere, which no kernel takes.

    Raises:
        OSError: the kernel has no seccomp.
    """
    if prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, check=False):
        number = ctypes.get_errno()
        if number != errno.EFAULT:
            raise OSError(number, os.strerror(number))


def refuse_threads() -> None:
    """
    No process starts a thread, from now on; a library that can do without does.

    With ENOSYS, as on a machine that has none.

    Raises:
        OSError: as `restrict`.
    """
    prctl(PR_SET_NO_NEW_PRIVS, 1)
    load(assembled(threadless))


def load(code: bytes) -> None:
    """Have the kernel run this filter too; the strictest of several counts."""
    buffer = ctypes.create_string_buffer(code)
    # struct sock_fprog: a count, and after padding a pointer.
    head = struct.pack("@HP", len(code) // 8, ctypes.addressof(buffer))
    mode = ctypes.c_ulong(SECCOMP_MODE_FILTER)
    checked(libc().prctl(PR_SET_SECCOMP, mode, ctypes.c_char_p(head)))


@cache
def compiled() -> bytes:
    """The filter for this machine, as the kernel takes it."""
    return assembled(program)


def assembled(write: Callable[[str], Iterator[Instruction]]) -> bytes:
    """The instructions that `write` has for this machine, as the kernel takes them."""
    machine = platform.machine()
    if machine not in AUDIT_ARCH:
        raise OSError(errno.ENOSYS, f"no filter is written for {machine}")
    return b"".join(struct.pack("=HBBI", *line) for line in write(machine))


def program(machine: str) -> Iterator[Instruction]:
    """The filter, an instruction at a time."""
    column = 0 if machine == "x86_64" else 1
    refuse = (RETURN, 0, 0, ERROR | errno.EPERM)
    yield LOAD, 0, 0, AT_ARCH
    yield JUMP_EQUAL, 1, 0, AUDIT_ARCH[machine]
    yield RETURN, 0, 0, KILL
    yield LOAD, 0, 0, AT_NUMBER
    if machine == "x86_64":
        yield JUMP_FROM, 0, 1, X32
        yield refuse
    for numbers in REFUSED.values():
        number = numbers[column]
        if number is not None:
            yield JUMP_EQUAL, 0, 1, number
            yield refuse
    # Its flags lie in memory, where no filter can look; the C library then uses
    # `clone`, which tells.
    yield JUMP_EQUAL, 0, 1, CLONE3[column]
    yield RETURN, 0, 0, ERROR | errno.ENOSYS
    yield JUMP_EQUAL, 0, 4, CLONE[column]
    yield LOAD, 0, 0, AT_FIRST
    yield JUMP_SET, 0, 1, NAMESPACES
    yield refuse
    yield RETURN, 0, 0, ALLOW
    # The own limits may be lowered, the worker's may not.
    yield JUMP_EQUAL, 0, 3, PRLIMIT64[column]
    yield LOAD, 0, 0, AT_FIRST
    yield JUMP_EQUAL, 1, 0, 0
    yield refuse
    yield RETURN, 0, 0, ALLOW


def threadless(machine: str) -> Iterator[Instruction]:
    """The filter of `refuse_threads`, an instruction at a time."""
    column = 0 if machine == "x86_64" else 1
    yield LOAD, 0, 0, AT_ARCH
    yield JUMP_EQUAL, 1, 0, AUDIT_ARCH[machine]
    yield RETURN, 0, 0, KILL
    yield LOAD, 0, 0, AT_NUMBER
    yield JUMP_EQUAL, 3, 0, CLONE3[column]
    yield JUMP_EQUAL, 0, 3, CLONE[column]
    yield LOAD, 0, 0, AT_FIRST
    yield JUMP_SET, 0, 1, CLONE_THREAD
    yield RETURN, 0, 0, ERROR | errno.ENOSYS
    yield RETURN, 0, 0, ALLOW


def call(name: str, *arguments: object) -> int:
    """
    One of `OURS`, by its number: the same on all architectures.

    Raises:
        OSError: as the kernel says; ENOSYS when it is older than the call.
    """
    number = ctypes.c_long(OURS[name])
    wide = [ctypes.c_long(x) if isinstance(x, int) else x for x in arguments]
    return checked(libc().syscall(number, *wide))


@cache
def libc() -> ctypes.CDLL:
    """The C library, which leaves the errors of its functions with us."""
    library = ctypes.CDLL(None, use_errno=True)
    library.syscall.restype = ctypes.c_long
    return library


def checked(status: int) -> int:
    """
    What a C function returned.

    Raises:
        OSError: it returned -1; as the kernel says.
    """
    if status < 0:
        number = ctypes.get_errno() or errno.EPERM
        raise OSError(number, os.strerror(number))
    return int(status)


def prctl(option: int, *values: int, check: bool = True) -> int:
    """The system call of that name; 0 when it went through."""
    padded = [ctypes.c_ulong(value) for value in (*values, 0, 0, 0, 0)[:4]]
    status = int(libc().prctl(option, *padded))
    return checked(status) if check else status
