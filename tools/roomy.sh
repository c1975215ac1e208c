#!/usr/bin/env bash
# Names a folder in memory for what tests write, if there is one with 8 GB to spare from
# which programs may be started; else nothing.
set -euo pipefail
folder=/dev/shm
free=$(df -k --output=avail "$folder" 2>/dev/null | tail -n 1) || exit 0
((free > 8000000)) || exit 0
probe=$(mktemp -p "$folder") || exit 0
trap 'rm -f "$probe"' EXIT
cp "$(type -P true)" "$probe"
chmod +x "$probe"
if "$probe" 2>/dev/null; then
	echo "$folder"
fi
