#!/usr/bin/env bash
# Sees that there is an HAProxy for the tests of deployments/haproxy.cfg, which
# start their own. On Debian and Ubuntu it installs one, if it may; elsewhere it
# says how. Without it those tests are skipped, which CI=true doesn't allow.
set -euo pipefail

say() { printf '%s\n' "$*" >&2; }

# The same places as startProxy in cmd/parley.
if command -v haproxy >/dev/null || [[ -x /usr/sbin/haproxy ]]; then
	exit
fi

# install takes the words that make a command root's.
install() {
	say 'install haproxy'
	"$@" apt-get update -qq || true # what it knew before may do
	"$@" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends haproxy || return
	# The package starts a service, which nobody here needs.
	if [[ -d /run/systemd/system ]]; then
		"$@" systemctl disable --now --quiet haproxy
	fi
}

if command -v apt-get >/dev/null; then
	how='sudo apt-get install haproxy'
	root=(sudo -n) # without asking for a password in the middle of a build
	((EUID)) || root=(env)
	if "${root[@]}" true 2>/dev/null && install "${root[@]}"; then
		exit
	fi
elif command -v brew >/dev/null; then
	how='brew install haproxy'
else
	how="your system's package of it"
fi
say "MISSING for the tests: haproxy. Its tests will be skipped. To install: $how"
[[ ${CI:-} != true ]]
