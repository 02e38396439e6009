#!/usr/bin/env bash
# The life of the Debian package PACKAGE on a host: installed, configured, run, upgraded, removed, purged. DIRECTORY is empty.
#
# The host is this one, with a layer over it that takes every change, and a network of its own: run as root, by
# `unshare --mount --net`. systemd does not run in it; what its units say is checked, and their commands are started as they say.
set -euo pipefail

package=$1
directory=$2
root=$directory/root

say() { printf '%s\n' "$*"; }
fail() {
    say "FAILED: $*"
    exit 1
}
on_host() { chroot "$root" "$@"; }
# What `stat` calls owner, group and mode of PATH.
expect_owner() {
    local got
    got=$(on_host stat --format '%U:%G %a' "$1")
    [[ $got == "$2" ]] || fail "$1 is $got, and not $2"
}
wait_until() {
    local tries
    for ((tries = 0; tries < 150; tries++)); do
        ! "$@" >/dev/null 2>&1 || return 0
        sleep 0.2
    done
    cat "$directory"/*.log
    fail "not within 30 s: $*"
}
# What UNIT starts, as the user that it names and with no more rights than it leaves. Sets `started`.
start() {
    local unit=$root/lib/systemd/system/$1.service user command
    user=$(sed -n 's/^User=//p' "$unit")
    read -ra command <<<"$(sed -n 's/^ExecStart=//p' "$unit")"
    chroot "$root" setpriv --reuid "$user" --regid "$user" --clear-groups --no-new-privs --bounding-set=-all \
        env --chdir=/ "${command[@]}" >>"$directory/$1.log" 2>&1 &
    started=$!
}
stop() {
    kill -TERM "$1"
    wait "$1" || fail "process $1 ended with $?"
}
agent_reports() { on_host curl --silent --fail --header "Authorization: Bearer $token" http://127.0.0.1:8610/api/v1/agents | grep -Eq '"(starting|reporting)"'; }

mkdir "$directory/layer" "$root"
mount -t tmpfs layer "$directory/layer"
mkdir "$directory/layer/changes" "$directory/layer/work"
mount -t overlay host -o "lowerdir=/,upperdir=$directory/layer/changes,workdir=$directory/layer/work" "$root"
mount --bind /proc "$root/proc"
mount --bind /dev "$root/dev"
# What a developer has of a package of his own is none of this test's.
! on_host dpkg-query --show aviary >/dev/null 2>&1 || fail "aviary is installed on this machine already"
ip link set lo up

cp "$package" "$root/old.deb"
# The next version: the defaults have changed as well.
dpkg-deb --raw-extract "$package" "$directory/next"
sed -i 's/^Version: .*/Version: 9.0.0-1/' "$directory/next/DEBIAN/control"
for file in agent collector; do
    echo '# of 9.0.0' >>"$directory/next/etc/aviary/$file.toml"
done
dpkg-deb --root-owner-group -Zgzip -z1 --build "$directory/next" "$root/new.deb" >/dev/null
rm -r "$directory/next"

say "== installed"
on_host dpkg --install /old.deb
expect_owner /etc/aviary 'root:aviary 750'
expect_owner /var/lib/aviary 'aviary:aviary 750'
[[ ! -e $root/etc/systemd/system/multi-user.target.wants/aviary-agent.service ]] || fail "a role was chosen for the host"
on_host systemd-analyze verify /lib/systemd/system/aviary-{agent,collector}.service
for page in aviary aviary-run aviary-store-backup; do
    [[ -s $root/usr/share/man/man1/$page.1.gz ]] || fail "there is no page on $page"
done
bash -n "$root/usr/share/bash-completion/completions/aviary"
on_host aviary check /etc/aviary/agent.toml /etc/aviary/collector.toml

say "== configured and run"
token=$(head -c 24 /dev/urandom | base64 | tr '+/' 'ab')
printf '%s\n' "$token" >"$root/etc/aviary/agents.token"
on_host chown root:aviary /etc/aviary/agents.token
on_host chmod 0640 /etc/aviary/agents.token
cat >>"$root/etc/aviary/collector.toml" <<'EOF'

[[collector.token]]
name = "agents"
secret = { file = "/etc/aviary/agents.token" }
scope = ["report", "read"]

[sink]
tcp = "127.0.0.1:2003"

[[service]]
name = "ingest"
endpoints = ["tcp://127.0.0.1:2003"]
EOF
export AVIARY_AGENT_TOKEN_FILE=/etc/aviary/agents.token
trap 'kill $(jobs -p) 2>/dev/null || true' EXIT
start aviary-collector
collector=$started
wait_until on_host aviary health --ready http://127.0.0.1:8610
start aviary-agent
agent=$started
wait_until on_host aviary health --ready http://127.0.0.1:8611
wait_until agent_reports
[[ $(stat --format %u "/proc/$agent") == "$(on_host id --user aviary)" ]] || fail "the agent runs as somebody else"
expect_owner /var/lib/aviary/agent 'aviary:aviary 700'

say "== upgraded"
on_host dpkg --force-confdef --force-confold --install /new.deb
[[ $(on_host dpkg-query --show --showformat '${Version}' aviary) == 9.0.0-1 ]] || fail "the version is the old one"
grep -q '^name = "ingest"' "$root/etc/aviary/collector.toml" || fail "what was configured is gone"
[[ -e $root/etc/aviary/collector.toml.dpkg-dist ]] || fail "nobody can see what the new defaults are"
grep -q '^# of 9.0.0' "$root/etc/aviary/agent.toml" || fail "defaults that nobody changed are the old ones"
expect_owner /etc/aviary/agents.token 'root:aviary 640'
kill -0 "$agent" "$collector" || fail "unpacking ended what ran"
# What try-restart does where systemd runs.
stop "$agent"
stop "$collector"
start aviary-collector
collector=$started
wait_until on_host aviary health --ready http://127.0.0.1:8610
on_host curl --silent --fail --header "Authorization: Bearer $token" http://127.0.0.1:8610/api/v1/agents |
    grep -q '"reports\|"node' || fail "the collector does not know any more who reported"
stop "$collector"
on_host aviary store verify /var/lib/aviary/collector

say "== removed"
on_host dpkg --remove aviary
[[ ! -e $root/usr/bin/aviary ]] || fail "the program is still there"
[[ -s $root/etc/aviary/agents.token && -d $root/var/lib/aviary/collector ]] || fail "removal took more than the program"

say "== purged"
# What an administrator would have made.
mkdir -p "$root/etc/systemd/system/multi-user.target.wants" "$root/etc/systemd/system/aviary-agent.service.d"
ln -s /lib/systemd/system/aviary-agent.service "$root/etc/systemd/system/multi-user.target.wants/"
on_host dpkg --purge aviary
! on_host getent passwd aviary || fail "the user is still there"
! on_host getent group aviary || fail "the group is still there"
# A character device of number 0 in the layer is how it says that a file is gone.
# What the reader of man pages has in its cache is its own.
left=$(find "$directory/layer/changes" -path '*/var/cache/man' -prune -o -name '*aviary*' ! -type c -print)
[[ -z $left ]] || fail "left behind: $left"
left=$(grep --recursive --files-with-matches --exclude-dir=log --exclude='*-' --exclude='status-old' --exclude-dir=man \
    --exclude='*.deb' --exclude-dir=root aviary "$directory/layer/changes" || true)
[[ -z $left ]] || fail "aviary is still named in: $left"
say "== nothing is left"
