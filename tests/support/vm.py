"""A real Debian 12 in a virtual machine, made from the distribution's packages and reached over SSH.

Without KVM: QEMU translates the guest's instructions, which takes some twenty times as long as running them. The disk is
made once and kept in `~/.cache/accept-lab`; each machine writes to a layer of its own above it, and starts fresh.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from support.tools import require_tool

RELEASE = "bookworm"
PACKAGES = (
    "linux-image-cloud-amd64", "systemd-sysv", "udev", "kmod", "dbus", "openssh-server", "python3", "iproute2",
    "procps", "ca-certificates",
)  # fmt: skip
"""What a host of a cloud has before anybody provisions it, and nothing that the lab wants besides."""
FILES = {
    "etc/fstab": "/dev/vda / ext4 defaults 0 1\n",
    "etc/hostname": "lab-vm\n",
    "etc/resolv.conf": "nameserver 10.0.2.3\n",
    "etc/systemd/network/20-wired.network": "[Match]\nName=en*\n[Network]\nDHCP=ipv4\n",
}
DISK_SIZE = "4G"
MEMORY_MIB = 1536
HOST_AS_SEEN_FROM_THE_GUEST = "10.0.2.2"
GUEST = "10.0.2.15"
BOOT_SECONDS = 600
CONNECT_SECONDS = 60
"""Until sshd's banner: a guest that is busy starting units, on a host that is busy too, took more than 5 s."""
BUILD_SECONDS = 900


@dataclass(frozen=True)
class Image:
    """The disk, and what the machine boots with and is logged in to with."""

    folder: Path

    @property
    def disk(self) -> Path:
        return self.folder / "disk.img"

    @property
    def key(self) -> Path:
        return self.folder / "key"


def cache() -> Path:
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "accept-lab"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def image() -> Image:
    """The image of this recipe; the first time takes some minutes."""
    recipe = repr((RELEASE, PACKAGES, FILES, DISK_SIZE))
    folder = cache() / f"vm-{hashlib.sha256(recipe.encode()).hexdigest()[:12]}"
    if not folder.exists():
        build(folder)
    return Image(folder)


def build(folder: Path) -> None:
    for tool in ("debootstrap", "mke2fs", "ssh-keygen"):
        require_tool(tool)
    made = Path(tempfile.mkdtemp(prefix="making-", dir=cache()))
    root = made / "root"
    try:
        run("debootstrap", "--variant=minbase", f"--include={','.join(PACKAGES)}", RELEASE, str(root))
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(made / "key"))
        for name, text in FILES.items():
            (root / name).unlink(missing_ok=True)
            (root / name).write_text(text)
        (root / "root/.ssh").mkdir(mode=0o700, exist_ok=True)
        shutil.copy(made / "key.pub", root / "root/.ssh/authorized_keys")
        run("chroot", str(root), "systemctl", "--quiet", "enable", "systemd-networkd", "ssh")
        run("chroot", str(root), "apt-get", "clean")
        for name in ("vmlinuz", "initrd.img"):
            shutil.copy(next((root / "boot").glob(f"{name}-*")), made / name)
        run("mke2fs", "-q", "-t", "ext4", "-d", str(root), str(made / "disk.img"), DISK_SIZE)
        shutil.rmtree(root)
        made.rename(folder)
    finally:
        shutil.rmtree(made, ignore_errors=True)


def run(*command: str) -> str:
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=BUILD_SECONDS, check=False
    )
    assert done.returncode == 0, f"{command}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
    return done.stdout


class Vm:
    """One machine. `forwards` are ports of this host's loopback by the guest's ports."""

    def __init__(self, image: Image, folder: Path, forwards: dict[int, int]) -> None:
        self.image, self.folder, self.forwards = image, folder, forwards

    def start(self) -> None:
        layer = self.folder / "layer.qcow2"
        run("qemu-img", "create", "-q", "-f", "qcow2", "-b", str(self.image.disk), "-F", "raw", str(layer))
        forwards = "".join(f",hostfwd=tcp:127.0.0.1:{here}-:{there}" for there, here in self.forwards.items())
        command = [
            "setpriv", "--pdeathsig", "KILL",  # however this process ends, the machine ends with it
            "qemu-system-x86_64", "-accel", "tcg", "-cpu", "max", "-smp", "1", "-m", str(MEMORY_MIB),
            "-kernel", str(self.image.folder / "vmlinuz"), "-initrd", str(self.image.folder / "initrd.img"),
            "-append", "root=/dev/vda rw console=ttyS0", "-drive", f"file={layer},if=virtio,cache=unsafe",
            "-nic", f"user,model=virtio-net-pci{forwards}", "-device", "virtio-rng-pci",
            "-display", "none", "-monitor", "none", "-serial", f"file:{self.folder / 'console.log'}",
        ]  # fmt: skip
        self._qemu = subprocess.Popen(command, stdin=subprocess.DEVNULL)
        self.wait_for_ssh()

    def stop(self) -> None:
        self._qemu.kill()
        self._qemu.wait()

    def wait_for_ssh(self) -> None:
        deadline = time.monotonic() + BOOT_SECONDS
        while self.try_ssh("true", seconds=30).returncode != 0:
            console = self.folder / "console.log"
            assert time.monotonic() < deadline, f"no ssh:\n{console.read_text(errors='replace')[-2000:]}"
            assert self._qemu.poll() is None, "QEMU has ended"
            time.sleep(0.5)

    @property
    def ssh_options(self) -> list[str]:
        return ["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR"]

    @property
    def _login(self) -> list[str]:
        return [
            "-p", str(self.forwards[22]), "-i", str(self.image.key), *self.ssh_options,
            "-o", f"ConnectTimeout={CONNECT_SECONDS}", "-o", "BatchMode=yes", "root@127.0.0.1",
        ]  # fmt: skip

    def try_ssh(self, command: str, seconds: float = 120) -> subprocess.CompletedProcess[str]:
        words = ["ssh", *self._login, command]
        try:
            return subprocess.run(
                words, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=seconds, check=False
            )
        except subprocess.TimeoutExpired as late:
            return subprocess.CompletedProcess(words, 255, "", str(late))

    def ssh(self, command: str, seconds: float = 120) -> str:
        """What the command prints on the guest, where root runs it."""
        done = self.try_ssh(command, seconds)
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    @contextmanager
    def tunnel(self, here: int, there: int) -> Iterator[subprocess.Popen[bytes]]:
        """A port of this host that leads to one of the guest's own loopback."""
        words = [
            "ssh", "-N", "-L", f"{here}:127.0.0.1:{there}", "-o", "ExitOnForwardFailure=yes", *self._login,
        ]  # fmt: skip
        with subprocess.Popen(words, stdin=subprocess.DEVNULL) as running:
            try:
                yield running
            finally:
                running.kill()

    def reboot(self) -> None:
        before = self.ssh("cat /proc/sys/kernel/random/boot_id")
        self.try_ssh("systemctl reboot")
        deadline = time.monotonic() + BOOT_SECONDS
        while self.try_ssh("cat /proc/sys/kernel/random/boot_id", 30).stdout in {"", before}:
            assert time.monotonic() < deadline, "it does not come back"
            time.sleep(0.5)


def accepts(port: int) -> bool:
    """Whether the guest's end of the port says anything to a request; QEMU itself accepts every connection."""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as probe:
        try:
            probe.sendall(b"GET /healthz HTTP/1.1\r\nHost: guest\r\nConnection: close\r\n\r\n")
            return probe.recv(1) != b""
        except ConnectionError:
            return False
