"""Writes trailsync's configuration for the demo from what the fake AWS says is there."""
import json
import os
import socket
import sys

ready = json.load(open(sys.argv[1]))
work = os.path.abspath(sys.argv[2])


def secret(name, text):
    path = os.path.join(work, name)
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text + "\n")
    return path


def page():
    """Where the status page can be: its usual port, or any that is free."""
    for port in (9720, 0):
        with socket.socket() as free:
            free.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                free.bind(("127.0.0.1", port))
                return "127.0.0.1:%d" % free.getsockname()[1]
            except OSError:
                pass
    return "off"


lines = [f'[http]\nlisten = "{page()}"\n', f'[state]\ndir = "{work}/state"\n']
for name, role in sorted(ready["roles"].items()):
    key = ready["keys"][f"mirror-{name}"]
    lines.append(f"""
[source.consumer-{name}]
bucket = "{ready['buckets'][0]}"
region = "{ready['region']}"
bucket_owner = "111111111111"
accounts = ["{role['consumer']}"]

[source.consumer-{name}.role]
arn = "{role['arn']}"
session_name = "trailsync-{name}"
""")
    if role["external_id"]:
        lines.append(f'external_id = "{role["external_id"]}"\n')
    lines.append(f"""
[source.consumer-{name}.credentials]
access_key_id_file = "{secret(name + '.id', key['access_key_id'])}"
secret_access_key_file = "{secret(name + '.key', key['secret_access_key'])}"

[source.consumer-{name}.endpoints]
s3 = "{ready['endpoint']}"
sts = "{ready['endpoint']}"
cloudtrail = "{ready['endpoint']}"
path_style = true

[source.consumer-{name}.destination]
path = "{work}/mirror-{name}"
# Temporary directories are often on tmpfs, and containers on overlayfs.
allow_volatile = true

# So short that the demo shows late files within seconds; the defaults are for a real bill.
[source.consumer-{name}.poll]
every = "5s"
idle_every = "5s"
lookback = [{{ depth = "2h", every = "10s" }}, {{ depth = "35d", every = "15s" }}]
""")
open(os.path.join(work, "trailsync.toml"), "w").write("".join(lines))
