# The life of the package on a machine of its own: installed, configured, run, killed, upgraded, removed, purged.
# In /judge: trailsync.deb, trailsync.toml, access_key_id, secret_access_key, logs (how many there are).
set -eu
unit=trailsync.service
logs=$(cat /judge/logs)

say() { echo "== $*"; }
fail() {
	echo "FAIL: $*"
	systemctl status --no-pager $unit || true
	journalctl --no-pager -u $unit | tail -n 40
	exit 1
}
is() { [ "$2" = "$3" ] || fail "$1: expected $2, found $3"; }
until_so() {
	for _ in $(seq 150); do
		if "$@" >/dev/null 2>&1; then return; fi
		sleep 0.2
	done
	fail "never so: $*"
}
property() { systemctl show --property "$1" --value $unit; }
objects() { trailsync status --json | grep -o '"objects":[0-9]*' | head -n 1 | grep -qx "\"objects\":$logs"; }

say "it installs, and waits for a configuration without failing"
dpkg -i /judge/trailsync.deb
is "enabled" enabled "$(systemctl is-enabled $unit)"
is "state" inactive "$(systemctl is-active $unit || true)"
is "failed units" "" "$(systemctl --failed --no-legend --plain)"
journalctl --no-pager -u $unit | grep -q "No source is configured: write one into /etc/trailsync/trailsync.toml" || fail "no reason"
is "the tree for copies" "trailsync trailsync 750" "$(stat -c '%U %G %a' /srv/trailsync)"
is "conffile" "/etc/trailsync/trailsync.toml" "$(dpkg-query -W -f '${Conffiles}' trailsync | awk 'NF {print $1}')"
systemd-analyze verify --man=no /usr/lib/systemd/system/$unit
[ -s /usr/share/man/man1/trailsync.1.gz ] && [ -s /usr/share/man/man1/trailsync-run.1.gz ] || fail "no man pages"
bash -n /usr/share/bash-completion/completions/trailsync
[ -s /usr/share/doc/trailsync/copyright ] || fail "no licence"

say "configured, it starts, and tells systemd when it is ready"
cp /judge/trailsync.toml /etc/trailsync/
install -m 0600 /judge/access_key_id /judge/secret_access_key /etc/trailsync/
mkdir -p /etc/systemd/system/$unit.d
cat >/etc/systemd/system/$unit.d/credentials.conf <<'C'
[Service]
LoadCredential=access_key_id:/etc/trailsync/access_key_id
LoadCredential=secret_access_key:/etc/trailsync/secret_access_key
C
systemctl daemon-reload
systemctl start $unit || fail "it does not start"
is "state" active "$(systemctl is-active $unit)"
until_so objects
until_so trailsync health
until_so sh -c "systemctl show --property StatusText --value $unit | grep -q '^All 1 accounts current'"

say "it is confined as the unit says"
pid=$(property MainPID)
field() { awk -v name="$1:" '$1 == name {print $2}' "/proc/$pid/status"; }
is "user" "$(id -u trailsync)" "$(field Uid)"
is "seccomp filter" 2 "$(field Seccomp)"
is "no new privileges" 1 "$(field NoNewPrivs)"
is "capabilities" 0000000000000000 "$(field CapEff)"
is "bounding set" 0000000000000000 "$(field CapBnd)"
inside() { nsenter --target "$pid" --mount -- "$@"; }
for place in /usr/bin /etc/trailsync /var/lib /srv; do
	if inside touch "$place/written" 2>/dev/null; then fail "$place can be written"; fi
done
inside touch /srv/trailsync/written /var/lib/trailsync/written
rm /srv/trailsync/written /var/lib/trailsync/written
is "root's files in its /root" "" "$(inside ls -A /root 2>/dev/null)"
is "mode of the state" 700 "$(stat -c %a /var/lib/trailsync)"

say "a configuration that is wrong is refused on reload, and the old one stays"
sed 's/^bucket = .*/bucket = 7/' /judge/trailsync.toml >/etc/trailsync/trailsync.toml
systemctl reload $unit
until_so sh -c "journalctl --no-pager -u $unit | grep -q 'the old one stays'"
cp /judge/trailsync.toml /etc/trailsync/
is "state" active "$(systemctl is-active $unit)"
is "process" "$pid" "$(property MainPID)"

say "killed, it comes back; so it does after an upgrade"
kill -9 "$pid"
until_so sh -c "[ \$(systemctl show -p MainPID --value $unit) != 0 ] && [ \$(systemctl show -p MainPID --value $unit) != $pid ]"
until_so trailsync health
pid=$(property MainPID)
dpkg -i /judge/trailsync.deb
until_so trailsync health
[ "$(property MainPID)" != "$pid" ] || fail "the old program still runs"
until_so objects

say "a good reload begins anew, stopping is clean"
systemctl reload $unit
until_so sh -c "journalctl --no-pager -u $unit | grep -q 'was read again'"
until_so trailsync health
systemctl stop $unit
is "result" success "$(property Result)"
cp -a /srv/trailsync/acme /judge/tree

say "removed, it leaves configuration, state and copies"
systemctl start $unit
dpkg -r trailsync
is "processes" "" "$(readlink /proc/[0-9]*/exe | grep trailsync || true)"
[ -s /etc/trailsync/trailsync.toml ] && [ -d /var/lib/trailsync ] || fail "more than the program went"

say "purged, it leaves the copies and nothing else"
rm -r /etc/systemd/system/$unit.d /etc/trailsync/access_key_id /etc/trailsync/secret_access_key
dpkg -P trailsync
left() { find / -xdev -name '*trailsync*' -not -path '/proc/*' -not -path '/judge*' | sort; }
is "left" "/srv/trailsync" "$(left | grep -v '^/srv/trailsync/')"
diff -r /srv/trailsync/acme/AWSLogs /judge/tree/AWSLogs || fail "copies were touched"
is "unit" "" "$(systemctl list-unit-files --no-legend 'trailsync*')"

say "where there are no copies, not even a directory stays"
rm -r /srv/trailsync/acme
dpkg -i /judge/trailsync.deb
is "state" inactive "$(systemctl is-active $unit || true)"
dpkg -P trailsync
is "left" "" "$(left)"
say "done"
