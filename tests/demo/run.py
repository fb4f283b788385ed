#!/usr/bin/env python3
"""The demo: two consumers mirror their logs from one bucket while it fills, through one kill -9.

Needs `trailsync` and `fakeaws` built (`make demo` does both) and nothing but Python's own library. It talks
to no one but itself, on the loopback interface. It exits with 0 only if every check at its end holds, and
leaves nothing behind: no process, no file. KEEP=1 keeps the files.
"""
import argparse
import hashlib
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.parse
import urllib.request

HERE = pathlib.Path(__file__).resolve().parent
LIVE_SECONDS = 55
SESSION_SECONDS = 20
STATUS_EVERY = 3
KILL_WITHIN = 14
DOWN_SECONDS = 3
CATCH_UP_SECONDS = 55
STOP_SECONDS = 10
# What AWS asks in most regions, in dollars.
LIST_PRICE, GET_PRICE = 0.005 / 1000, 0.0004 / 1000
LATE_SHOWN = 6


class Demo:
    def __init__(self, work, bins):
        self.work, self.bins = work, bins
        self.log = work / "trailsync.log"
        self.config = work / "trailsync.toml"
        self.services = self.daemon = self.ready = None
        self.began = time.monotonic()
        self.problems = []

    # Processes

    def start_services(self, live_seconds):
        ready = self.work / "ready.json"
        options = ["--scenario", "demo", "--live-seconds", str(live_seconds)]
        options += ["--session-seconds", str(SESSION_SECONDS), "--ready-file", str(ready)]
        with open(self.work / "fakeaws.log", "wb") as log:
            self.services = subprocess.Popen([self.bins / "fakeaws", "serve", *options], stdout=log, stderr=log)
        wait_for(lambda: self.parsed(ready), 60, "the stand-in for AWS to listen", self.services)
        self.ready = self.parsed(ready)
        subprocess.run([sys.executable, HERE / "config.py", ready, self.work], check=True)

    @staticmethod
    def parsed(path):
        try:
            return json.loads(path.read_text())
        except (OSError, ValueError):
            return None

    def page(self):
        """Where the status page is, as the configuration says."""
        line = next(line for line in self.config.read_text().splitlines() if line.startswith("listen"))
        return f"http://{json.loads(line.partition('=')[2])}/"

    def start_daemon(self):
        # What the caller's environment says about AWS or trailsync is not the demo's business.
        env = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "TRAILSYNC_"))}
        with open(self.log, "ab") as log:
            self.daemon = subprocess.Popen(
                [self.bins / "trailsync", "run", "--config", self.config], stdout=log, stderr=log, env=env
            )

    def stop_everything(self):
        for process in (self.daemon, self.services):
            if process is not None and process.poll() is None:
                process.kill()
                process.wait()

    # What the two sides say

    def ask(self, what, **query):
        address = f"{self.ready['endpoint']}/_fakeaws/{what}?{urllib.parse.urlencode(query)}"
        direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with direct.open(address, timeout=30) as answer:
            return json.load(answer)

    def status(self, *options):
        command = [self.bins / "trailsync", "status", "--config", self.config, *options]
        return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False).stdout

    def status_json(self):
        try:
            return json.loads(self.status("--json"))
        except ValueError:
            return {"accounts": []}

    def consumers(self):
        """(name, account, root of its mirror), as the scenario has them."""
        for name, role in sorted(self.ready["roles"].items()):
            yield name, role["consumer"], self.work / f"mirror-{name}"

    def delivered(self, account, hashes=False):
        shown = str(hashes).lower()
        return self.ask("objects", bucket=self.ready["buckets"][0], prefix=f"AWSLogs/{account}/", hashes=shown)

    @staticmethod
    def mirrored(root):
        """Keys of the copy by path. Metadata files and the mirror's own folder stand beside it."""
        files = (path for path in root.glob("*/**/*") if path.is_file() and not path.name.endswith("%_meta.json"))
        keys = ((path.relative_to(root).as_posix(), path) for path in files)
        return {key: path for key, path in keys if not key.startswith(".trailsync/")}

    # What a person sees

    def say(self, text):
        print(f"{time.monotonic() - self.began:5.0f} s  {text}", flush=True)

    def say_status(self):
        rows = {row["account"]: row for row in self.status_json()["accounts"]}
        counts = self.ask("deliveries")["by_account"]
        parts = []
        for name, account, _ in self.consumers():
            row = rows.get(account, {})
            total = sum(counts.get(account, {}).values())
            state = row.get("condition", "new").replace("_", " ")
            parts.append(f"{name.upper()}: {row.get('objects', 0):>5} of {total:>5} {state:<12}")
        roles = self.ask("counters")["roles"].values()
        self.say(" | ".join(parts) + f" | sessions {sum(role['total'] for role in roles)}")

    def watch(self, seconds, until=lambda: False):
        """Shows the status every few seconds, until something is so or the time is over."""
        end = time.monotonic() + seconds
        while time.monotonic() < end and not until():
            shown = time.monotonic() + STATUS_EVERY
            while time.monotonic() < shown and not until():
                time.sleep(0.3)
            self.needs_daemon()
            self.say_status()

    def is_a_third_done(self):
        done = sum(row["objects"] for row in self.status_json()["accounts"])
        counts = self.ask("deliveries")["by_account"]
        return done * 3 >= sum(sum(counts[account].values()) for _, account, _ in self.consumers())

    def needs_daemon(self):
        if self.daemon.poll() is not None:
            raise Failed(f"trailsync ended by itself with code {self.daemon.returncode}:\n{self.last_lines()}")

    def last_lines(self, lines=20):
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def check(self, is_good, text):
        print(f"  {'ok  ' if is_good else 'FAIL'}  {text}", flush=True)
        if not is_good:
            self.problems.append(text)

    # The course of the demo

    def caught_up(self):
        if self.ask("deliveries")["is_live"]:
            return False
        if not all(len(self.mirrored(root)) >= len(self.delivered(account)) for _, account, root in self.consumers()):
            return False
        status = self.status_json()
        rows = {row["account"]: row for row in status["accounts"]}
        accounts = [account for _, account, _ in self.consumers()]
        return all(
            account in rows
            and rows[account]["condition"] == "current"
            and rows[account]["objects"] >= len(self.delivered(account))
            for account in accounts
        )

    def run(self):
        print(
            "One bucket of account 111111111111, into which CloudTrail delivers; consumers B and C, who may each\n"
            "read their own logs through a role of their own. trailsync mirrors both. Sessions live "
            f"{SESSION_SECONDS} s here;\nfiles arrive out of order, and some arrive late.\n"
        )
        self.start_services(LIVE_SECONDS)
        started = self.ask("clock")["now"]
        self.say(f"the stand-in for AWS listens; two days of logs are there, more arrive for {LIVE_SECONDS} s")
        self.start_daemon()
        self.say(f"trailsync run; its status page is at {self.page()}")
        self.watch(KILL_WITHIN, self.is_a_third_done)

        self.daemon.send_signal(signal.SIGKILL)
        self.daemon.wait()
        self.say("kill -9, in the middle of its work")
        time.sleep(DOWN_SECONDS)
        while_down = self.status()
        self.say("the daemon is down, `trailsync status` is not: " + (while_down.splitlines() or ["(nothing)"])[0])
        self.start_daemon()
        self.say("trailsync run, again")

        deadline = time.monotonic() + LIVE_SECONDS + CATCH_UP_SECONDS
        while not self.caught_up() and time.monotonic() < deadline:
            self.watch(STATUS_EVERY)
        status, table = self.status_json(), self.status()
        counters = self.ask("counters")

        self.say("SIGTERM")
        asked = time.monotonic()
        self.daemon.terminate()
        try:
            code = self.daemon.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            code = None
        took = time.monotonic() - asked
        self.say("stopped; this was the status before:\n")
        print(table)
        self.judge(status, counters, while_down, started, code, took)

    def judge(self, status, counters, while_down, started, code, took):
        rows = {row["account"]: row for row in status["accounts"]}
        total = 0
        for name, account, root in self.consumers():
            delivered = {item["key"]: item for item in self.delivered(account, hashes=True)}
            mirrored = self.mirrored(root)
            total += len(delivered)
            missing = delivered.keys() - mirrored.keys()
            extra = mirrored.keys() - delivered.keys()
            altered = [key for key in delivered.keys() & mirrored.keys() if not same(delivered[key], mirrored[key])]
            self.check(
                bool(delivered) and not (missing or extra or altered),
                f"{name.upper()} {account}: {len(mirrored)} mirrored, {len(delivered)} delivered; "
                f"{len(missing)} missing, {len(extra)} too many, {len(altered)} not byte-identical (SHA-256)",
            )
            row = rows.get(account, {})
            self.check(
                row.get("condition") == "current" and row.get("objects") == len(delivered),
                f"{name.upper()} {account}: status said {row.get('condition')!r} with {row.get('objects')} objects",
            )
            self.late(name, account, root, started)
        self.check(not status.get("quarantine"), f"nothing in quarantine ({len(status.get('quarantine', []))})")
        self.check(bool(while_down), "status answered while the daemon was down")
        for name, role in sorted(self.ready["roles"].items()):
            sessions = counters["roles"].get(role["arn"], {}).get("total", 0)
            # Each start of the daemon obtains one; the rest are renewals.
            self.check(sessions >= 4, f"{name.upper()}: role assumed at 2 starts, renewed {max(0, sessions - 2)} times")
        refused = {op: count["by_class"]["4"] for op, count in counters["ops"].items() if "4" in count["by_class"]}
        self.check(not refused, f"no request was refused, none with an expired session ({refused or 'none'})")
        lists, gets = (counters["ops"].get(op, {}).get("total", 0) for op in ("ListObjectsV2", "GetObject"))
        price = lists * LIST_PRICE + gets * GET_PRICE
        self.check(
            total <= gets <= total * 1.5,
            f"one kill -9 survived: {gets} GETs for {total} objects; {lists} LISTs; AWS would ask ${price:.4f}",
        )
        log = self.log.read_text(errors="replace")
        secrets = [key["secret_access_key"] for key in self.ready["keys"].values()]
        secrets += [role["external_id"] for role in self.ready["roles"].values() if role["external_id"]]
        self.check(not any(secret in log for secret in secrets), "no secret in the log")
        self.check(code == 0, f"SIGTERM: exit code {code} after {took:.1f} s (at most {STOP_SECONDS})")

    def late(self, name, account, root, started):
        """Names the files that arrived late while the demo ran."""
        late = self.ask("deliveries")["late"]
        live = [item for item in late if item["account"] == account and item["at"] >= started]
        live.sort(key=lambda item: -item["late_by"])
        here = [item for item in live if (root / item["key"]).is_file()]
        self.check(len(here) == len(live), f"{name.upper()} {account}: {len(here)} of {len(live)} late files are here")
        for item in live[:LATE_SHOWN]:
            print(f"          {span(item['late_by']):>8} late: {item['key'].rsplit('/', 1)[1]}")
        if len(live) > LATE_SHOWN:
            print(f"          and {len(live) - LATE_SHOWN} more")

    def run_live(self):
        """Runs until Ctrl-C, for a person to watch."""
        self.start_services(0)
        self.start_daemon()
        while True:
            self.needs_daemon()
            counts = self.ask("deliveries")["by_account"]
            there = ", ".join(f"{account} {sum(counts[account].values())}" for _, account, _ in self.consumers())
            clear = "\x1b[H\x1b[2J" if sys.stdout.isatty() else ""
            print(f"{clear}{self.status()}\nDelivered to the bucket: {there}")
            print(f"Status page: {self.page()}\nFiles: {self.work}\nCtrl-C ends.", flush=True)
            time.sleep(2)


class Failed(Exception):
    """Said as it is, without a stack."""


def same(delivered, path):
    return hashlib.sha256(path.read_bytes()).hexdigest() == delivered["sha256"]


def span(seconds):
    if seconds < 3600:
        return f"{seconds // 60} min"
    return f"{seconds // 3600} h" if seconds < 2 * 86400 else f"{seconds // 86400} days"


def wait_for(has_come, seconds, what, process):
    deadline = time.monotonic() + seconds
    while not has_come():
        if process.poll() is not None or time.monotonic() > deadline:
            raise Failed(f"waited in vain for {what}")
        time.sleep(0.1)


def binaries():
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR") or HERE.parent.parent / "target")
    bins = target.resolve() / "debug"
    for name in ("trailsync", "fakeaws"):
        if not (bins / name).is_file():
            raise Failed(f"{bins / name} is not built; `make demo` builds it")
    return bins


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--live", action="store_true", help="run until Ctrl-C, for a person to watch")
    is_live = parser.parse_args().live
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    work = pathlib.Path(tempfile.mkdtemp(prefix="trailsync-demo-"))
    demo = None
    try:
        demo = Demo(work, binaries())
        demo.run_live() if is_live else demo.run()
    except Failed as why:
        print(f"FAIL  {why}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print()
        return 0 if is_live else 130
    finally:
        if demo:
            demo.stop_everything()
        if os.environ.get("KEEP") == "1":
            print(f"files kept in {work}")
        else:
            shutil.rmtree(work, ignore_errors=True)
    took = time.monotonic() - demo.began
    if demo.problems:
        print(f"\nFAIL: {len(demo.problems)} of the checks above do not hold ({took:.0f} s); KEEP=1 keeps the files")
        return 1
    print(f"\nok: everything delivered is mirrored, byte for byte ({took:.0f} s)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
