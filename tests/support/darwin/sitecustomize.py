"""Pretend to be macOS: Python runs this at its start where this folder is on PYTHONPATH.

What Linux alone has goes: names of the standard library, /proc, /sys, the locale C.UTF-8. What macOS alone has does not
come: its own C modules, kqueue, the make and the shell that it ships (tests/lab/test_macos.py has those).
"""

import importlib
import locale
import os
import resource
import select
import signal
import socket
import sys
import time

import psutil

CHOOSING = ("ctypes.util", "ssl", "subprocess", "sysconfig", "urllib.request")
"""They choose by the platform what they import, and are loaded while it is still Linux."""
LINUX_ALONE = {
    os: """
        sched_getaffinity sched_setaffinity sched_getscheduler sched_setscheduler sched_getparam sched_setparam
        sched_rr_get_interval O_PATH O_DIRECT O_TMPFILE O_NOATIME O_LARGEFILE pidfd_open memfd_create eventfd eventfd_read
        eventfd_write splice copy_file_range getrandom posix_fadvise posix_fallocate pipe2 getxattr setxattr listxattr
        removexattr getresuid getresgid setresuid setresgid fdatasync unshare setns
        waitid P_PID P_PIDFD P_ALL P_PGID WEXITED WNOWAIT WSTOPPED waitid_result
    """,  # Python has waitid on macOS from 3.13 on
    select: "epoll EPOLLIN EPOLLOUT EPOLLET EPOLLEXCLUSIVE EPOLLONESHOT EPOLLHUP EPOLLERR EPOLLRDHUP EPOLLPRI EPOLL_CLOEXEC",
    signal: "pidfd_send_signal sigwaitinfo sigtimedwait SIGRTMIN SIGRTMAX SIGPWR SIGSTKFLT SIGPOLL SIGCLD",
    resource: "prlimit RLIMIT_MSGQUEUE RLIMIT_NICE RLIMIT_RTPRIO RLIMIT_RTTIME RLIMIT_SIGPENDING RUSAGE_THREAD",
    time: "CLOCK_BOOTTIME CLOCK_TAI pthread_getcpuclockid clock_settime",
    socket: """
        AF_NETLINK AF_PACKET AF_VSOCK SO_BINDTODEVICE SO_INCOMING_CPU SO_PEERCRED SO_PASSCRED SO_MARK SO_DOMAIN SO_PROTOCOL
        TCP_DEFER_ACCEPT TCP_INFO TCP_QUICKACK TCP_USER_TIMEOUT TCP_LINGER2 TCP_CORK TCP_SYNCNT TCP_CONGESTION
        MSG_ERRQUEUE MSG_MORE MSG_CMSG_CLOEXEC SOCK_CLOEXEC SOCK_NONBLOCK
    """,
    psutil.Process: "cpu_affinity io_counters ionice rlimit cpu_num",
}
HIDDEN = ("/proc", "/sys")


def of_linux(path):
    """Whether a path is of Linux, and asked for by somebody else than psutil, which on macOS has other ways."""
    if not isinstance(path, (str, bytes, os.PathLike)):
        return False
    text = os.fsdecode(path)
    if not any(text == folder or text.startswith(f"{folder}/") for folder in HIDDEN):
        return False
    frame = sys._getframe()
    while frame is not None:
        if "psutil" in frame.f_code.co_filename:
            return False
        frame = frame.f_back
    return True


def watch(event, arguments):
    if event in {"open", "os.listdir", "os.scandir"} and arguments and of_linux(arguments[0]):
        raise FileNotFoundError(2, "No such file or directory", os.fsdecode(arguments[0]))


def hiding(function):
    def found(path, *arguments, **options):
        if of_linux(path):
            raise FileNotFoundError(2, "No such file or directory", os.fsdecode(path))
        return function(path, *arguments, **options)

    return found


def set_locale(category, wanted=None, *, real=locale.setlocale):
    if wanted is not None and ("C.UTF-8" in (wanted, os.environ.get("LC_ALL") if wanted == "" else None)):
        raise locale.Error("unsupported locale setting")
    if wanted == "" and os.environ.get("LC_ALL") == "en_US.UTF-8":
        return real(category, "C.UTF-8")  # this machine may not have that
    return real(category, wanted)


for name in CHOOSING:
    importlib.import_module(name)
sys.modules["sysconfig"].get_config_vars()  # kept from now on
sys.modules["tempfile"]._O_TMPFILE_WORKS = False
for owner, names in LINUX_ALONE.items():
    for name in names.split():
        if name in vars(owner):
            delattr(owner, name)
del sys.modules["selectors"]
importlib.import_module("asyncio")  # which sees the selectors that are left
os.stat, os.lstat, os.readlink = hiding(os.stat), hiding(os.lstat), hiding(os.readlink)
locale.setlocale = set_locale
sys.addaudithook(watch)
os.uname = lambda: os.uname_result(("Darwin", "mac", "24.1.0", "Darwin Kernel Version 24.1.0", "arm64"))
psutil.LINUX, psutil.MACOS, psutil.OSX = False, True, True
sys.platform = "darwin"
