#!/usr/bin/env bash
# Runs BINARY as deploy/container/Containerfile says, in the root that it makes: nothing but the program, read-only, and a user
# without a name on this host. DIRECTORY is empty. Run as root, by `unshare --mount --net`.
#
# A binary that is not static brings its libraries; the one of a release is static and has none.
set -euo pipefail

binary=$1
directory=$2
file=$(dirname -- "${BASH_SOURCE[0]}")/../../deploy/container/Containerfile
root=$directory/image

fail() {
    cat "$directory/log" 2>/dev/null || true
    printf 'FAILED: %s\n' "$*"
    exit 1
}
# The words of the JSON array after KEYWORD, the last of its kind.
words() { sed -n "s/^.*\b$1 \[\(.*\)\]$/\1/p" "$file" | tail -n 1 | tr -d '",'; }

read -ra entrypoint <<<"$(words ENTRYPOINT)"
read -ra arguments <<<"$(sed -n 's/^CMD \[\(.*\)\]$/\1/p' "$file" | tr -d '",')"
read -ra health <<<"$(words 'HEALTHCHECK.* CMD')"
user=$(sed -n 's/^USER \([0-9]*\):.*/\1/p' "$file")
environment=$(sed -n 's/^ENV //p' "$file")
volume=$(words VOLUME)
[[ ${#entrypoint[@]} = 1 && ${#health[@]} -ge 2 && -n $user && $user != 0 && -n $environment && -n $volume ]] ||
    fail "the container file is not as this test reads it"

mkdir "$root"
mount -t tmpfs image "$root"
mkdir -p "$root/etc/aviary" "$root/etc/ssl/certs" "$root$volume" "$root$(dirname "${entrypoint[0]}")"
cp "$binary" "$root${entrypoint[0]}"
cp /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/"
for library in $(ldd "$binary" 2>/dev/null | grep -o '/[^ ]*' || true); do
    install -D "$library" "$root$library"
done
cat >"$root/etc/aviary/agent.toml" <<'EOF'
[vantage]
region = "here"
[agent]
collector = ["http://127.0.0.1:8610"]
data = "/var/lib/aviary/agent"
listen = "127.0.0.1:8611"
[[service]]
name = "a"
endpoints = ["tcp://127.0.0.1:1"]
EOF
mount -o remount,ro "$root"
mount -t tmpfs -o "uid=$user,gid=$user,mode=0750" volume "$root$volume"
ip link set lo up

# What root may, it gives up with the user, after it has changed its root.
become_contained() {
    exec env --ignore-environment "$environment" /usr/sbin/chroot --userspec="$user:$user" --groups= "$root" "$@"
}
contained() { (become_contained "$@"); }

contained "${entrypoint[0]}" --version
! contained "${health[@]}" || fail "nothing runs, and the health check is content"
become_contained "${entrypoint[0]}" "${arguments[@]}" >"$directory/log" 2>&1 &
process=$!
trap 'kill "$process" 2>/dev/null || true' EXIT
for ((tries = 0; tries < 100; tries++)); do
    ! contained "${health[@]}" >"$directory/health" 2>&1 || break
    sleep 0.2
done
contained "${health[@]}" || fail "the health check says: $(cat "$directory/health")"
[[ $(stat --format %u "/proc/$process") == "$user" ]] || fail "it does not run as $user"
[[ $(grep -c '^Cap[EP].*:\s*0*$' "/proc/$process/status") == 2 ]] || fail "it has rights of root's"
# Its spool is where it may be, and nothing is anywhere else: the rest is read-only.
[[ -d $root$volume/agent ]] || fail "it keeps nothing"
kill -TERM "$process"
wait "$process" || fail "it ended with $?"
printf '== well, without a file but its own\n'
