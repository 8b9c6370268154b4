# shellcheck shell=bash disable=SC2034
# SPDX-License-Identifier: GPL-2.0
# What the scripts share: where things are, one build at a time, steps that show their progress.

shopt -s inherit_errexit
top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cache=${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/ioasid
jobs=${JOBS:-$(nproc)}
mkdir -p "$cache"

# The patches, for one base
series=$(echo "$top"/patches/[0-9]*)

# What is built is a function of its sources: no clock, no user name, no checkout path in it.
epoch='2024-11-17T00:00:00+00:00'
export KBUILD_BUILD_TIMESTAMP=$epoch KBUILD_BUILD_USER=ioasid KBUILD_BUILD_HOST=ioasid KBUILD_BUILD_VERSION=1 LOCALVERSION=
export CCACHE_DIR=$cache/ccache CCACHE_BASEDIR=$cache CCACHE_NOHASHDIR=1
# the distribution's tools (its python3 has the modules), whatever else is installed, and the compilers through ccache
export PATH=/usr/lib/ccache:/usr/bin:/bin:/usr/sbin:/sbin:$PATH
unset MAKEFLAGS MFLAGS MAKELEVEL

# Folders of the kernel's tree in which files are ours, whole
folders=(Documentation arch drivers include kernel lib mm samples security tools virt)
own_files() {
	git -c safe.directory='*' -C "$top" ls-files -co --exclude-standard -- "${folders[@]}" | sort -u |
		while read -r f; do [ ! -f "$top/$f" ] || echo "$f"; done
}

say() { printf '%s\n' "$*" >&2; }
die() { say "${0##*/}: $*"; exit 1; }
[[ $top$cache != *[[:space:]:]* ]] || die "the kernel cannot be built in a path with a blank or a colon: $top, $cache"

# --- a series of patches: a folder with a file 'series', and patches as 'git format-patch' writes them, with a subject,
# a description that '---' ends, and the diff

# entries <series file>: what it lists, without comments
entries() { sed -e 's/[[:space:]]*\(#.*\)\?$//' -e '/^$/d' "$1"; }

# series_entries <folder>: the patches of its sub-series, as <sub-series>/<file>
series_entries() {
	local sub
	entries "$1/series" | while read -r sub; do
		entries "$1/$sub/series" | sed "s,^,$sub/,"
	done
}

# message <patch>: subject and description
message() {
	awk '/^(---$|diff --git |Index: )/ { exit }
		!body && /^(From |From:|Date:)/ { next }
		!body && sub(/^Subject: */, "") { sub(/^\[[^]]*\] */, "") }
		/[^[:space:]]/ { body = 1 }
		body' "$1"
}

# identity: sets $name and $email to those of the user of the checkout, who is the author of patches without 'From:'
identity() {
	name=$(git -c safe.directory='*' -C "$top" config user.name || echo ioasid)
	email=$(git -c safe.directory='*' -C "$top" config user.email || echo ioasid@localhost)
}

# author <patch>: exports who a line 'From:' before its description names, if there is one: the author of a backport
author() {
	local from
	from=$(sed -nE '/^$/q; s/^From: (.*) <(.*)>$/\1\n\2/p' "$1")
	[ -z "$from" ] || export GIT_AUTHOR_NAME="${from%$'\n'*}" GIT_AUTHOR_EMAIL="${from#*$'\n'}"
}

# added_names <patch>: the files and folders of ours that it brings; named <names>: which of the files on stdin they are
added_names() { message "$1" | sed -n 's/^Adds: *//p' | tr -s '[:space:]' '\n'; }
named() {
	awk 'NR == FNR { if ($0 != "") name[$0]; next }
		{ for (n in name) if ($0 == n || index($0, n "/") == 1) { print; next } }' <(printf '%s\n' "$1") -
}

# apply <patch>: to the index of $GIT_DIR; says which hunk does not apply
apply() {
	git apply --cached --whitespace=nowarn "$1" >&2 ||
		{ say "${1#"$top"/} does not apply: the hunk is named above (file:line)"; return 1; }
}

# commit <parent>: the index, with the message on stdin; prints the commit
commit() { git stripspace | git commit-tree "$(git write-tree)" -p "$1" -F -; }

# commit_patch <parent> <patch> [<name>]: the index, with the patch's author and message; prints the commit. With a name, a
# line 'Patch: <name>' replaces the lines 'Adds:' of the message.
commit_patch() {
	local message
	message=$(message "$2")
	[ -n "$message" ] || { say "$2 has no description"; return 1; }
	[ -z "${3:-}" ] || message=$(sed '/^Adds:/d' <<<"$message" | git interpret-trailers --trailer "Patch: $3")
	(author "$2"; commit "$1" <<<"$message")
}

# new <base's findings> <ours>: what ours have that is new; the same one may be in another line
new() {
	awk '{ key = $0; sub(/:[0-9]+(:[0-9-]+)?:/, ":", key) }
	     FILENAME == ARGV[1] { had[key]++; next }
	     had[key]-- < 1' "$1" "$2"
}

# One build at a time; a script that the holder of the lock calls runs under the holder's.
lock() {
	[ -z "${IOASID_LOCKED:-}" ] || return 0
	exec 9>"$cache/build.lock"
	flock -n 9 || { say "another build is running, waiting for it"; flock 9; }
	export IOASID_LOCKED=1
}

# step <what> <log file> <command...>: runs it, output to the log, with a sign of life and the seconds that it took.
# A failure ends the script, after the telling part of the log. (So never use it in a condition: a function that runs
# as a step would lose its 'set -e'.)
step() {
	local what=$1 log=$2 start=$SECONDS rc ticker
	shift 2
	mkdir -p "${log%/*}"
	: >"$log"
	(
		every=30 end='\n'
		[ ! -t 2 ] || every=1 end='\r'
		exec 9>&- {never}<> <(:)
		while ! read -rt "$every" -u "$never" && kill -0 $$ 2>/dev/null; do
			printf "  %s: %d s, %d lines of output $end" "$what" $((SECONDS - start)) "$(wc -l <"$log")" >&2
		done
	) &
	ticker=$!
	set +e
	(set -e; "$@") >"$log" 2>&1 </dev/null 9>&-
	rc=$?
	set -e
	kill "$ticker" 2>/dev/null || true
	wait "$ticker" 2>/dev/null || true
	if [ "$rc" != 0 ]; then
		grep -E -A4 'error|Error|undefined|\*\*\*' "$log" | head -n 40 >&2 || true
		printf '  ... %s ends:\n%s\n' "$log" "$(tail -n 15 "$log")" >&2
		die "$what failed after $((SECONDS - start)) s"
	fi
	say "  $what: $((SECONDS - start)) s"
}
