#!/usr/bin/env bash
# Builds the web page (build), checks that what is committed is what the source says
# (check), plays it in a browser (test). The tools are those of package-lock.json, and
# live in node_modules; their install scripts are not run.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../console/page"

say() { printf '%s\n' "$*" >&2; }

have_npm() {
	command -v npm >/dev/null && return
	say "page: npm is not here: $1"
	return 1
}

install() {
	# Unless they are there already, from this very lock file.
	cmp -s package-lock.json node_modules/.parley-lock && return
	npm ci --no-audit --no-fund --ignore-scripts --loglevel=error || return
	cp package-lock.json node_modules/.parley-lock
}

# Without a network there is nothing to check with, which CI=true doesn't allow.
install_to() {
	install && return
	say "page: npm could not fetch what it takes: $1"
	[[ ${CI:-} != true ]] && exit 0
	exit 1
}

check() {
	have_npm 'what is committed is not checked' || return 0
	install_to 'what is committed is not checked'
	npm run --silent check
	local built
	built=$(mktemp -d)
	npm run --silent build -- --logLevel warn --outDir "$built"
	if ! diff -r dist "$built"; then
		rm -r "$built"
		say 'page: console/page/dist is not what the source says; make page builds it'
		return 1
	fi
	rm -r "$built"
}

browser() {
	local name
	for name in ${CHROMIUM:-} chromium chromium-browser google-chrome; do
		command -v "$name" && return
	done
	return 1
}

case ${1:-} in
build)
	have_npm 'it builds the page' || exit
	install
	npm run --silent check
	npm run --silent build
	;;
check) check ;;
test)
	have_npm 'the page is not played' || exit 0
	install_to 'the page is not played'
	CHROMIUM=$(browser) || {
		say 'page: no Chromium: apt-get install chromium, or CHROMIUM=program; the page is not played'
		exit 0
	}
	export CHROMIUM
	PARLEY=$(cd ../.. && pwd)/bin/parley node e2e/dev.mjs
	;;
*)
	say "usage: ${0##*/} build|check|test"
	exit 2
	;;
esac
