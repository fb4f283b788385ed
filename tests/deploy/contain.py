"""Becomes a program in a root of its own, as a container engine does it.

contain.py ROOT STATE MIRROR CONFIG UID:GID PROGRAM ARGUMENT...

In a mount namespace that the caller made: the root read-only, two volumes, the configuration; then no capability, no
new privileges, no groups, another user, an empty environment.
"""
import ctypes
import os
import sys

root, state, mirror, config, user, *command = sys.argv[1:]
libc = ctypes.CDLL(None, use_errno=True)
BIND, REMOUNT, RDONLY, NOSUID, NODEV, REC = 4096, 32, 1, 2, 4, 16384
PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS, LAST_CAP = 24, 38, 40


def call(function, *args):
    if function(*args) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), str(args))


def bind(source, target, flags=0):
    call(libc.mount, source.encode(), target.encode(), None, BIND | REC, None)
    if flags:
        call(libc.mount, None, target.encode(), None, BIND | REMOUNT | flags, None)


bind(root, root, RDONLY | NOSUID | NODEV)
bind(state, f"{root}/var/lib/trailsync")
bind(mirror, f"{root}/mirror")
bind(config, f"{root}/etc/trailsync", RDONLY)
call(libc.mount, b"proc", f"{root}/proc".encode(), b"proc", 0, None)
os.chroot(root)
os.chdir("/")
for capability in range(LAST_CAP + 1):
    call(libc.prctl, PR_CAPBSET_DROP, capability, 0, 0, 0)
uid, gid = map(int, user.split(":"))
os.setgroups([])
os.setgid(gid)
os.setuid(uid)
call(libc.prctl, PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
os.execve(command[0], command, {})
