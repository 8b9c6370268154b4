# shellcheck shell=bash disable=SC2016,SC2094,SC2154
# SPDX-License-Identifier: GPL-2.0
# Gets archives: from a folder of the user's, or from other suites of the Debian mirror that this machine uses. apt reads
# those suites in a folder of its own in the cache; the machine's own sources stay as they are. Needs lib.sh.
#
#   archive=$(from_distdir "$sums" 'linux-source-7.3_*.deb') || {
#           private_apt deb trixie-backports
#           version=$(candidates linux-source-7.3 | head -n 1)
#           archive=$(download linux-source-7.3 "$version" "$cache/dl" "$sums")
#   }

# has_sum <sums file> <file>: 0 if it has the sum that is recorded for its name, 1 if another one, 2 if none is recorded
has_sum() {
	local want
	want=$(awk -v name="${2##*/}" '$2 == name { print $1 }' "$1")
	[ -n "$want" ] || return 2
	[ "$(sha256sum <"$2")" = "$want  -" ]
}

# from_distdir <sums file> <pattern>: prints the archive in $DISTDIR whose name matches. Its sum has to be recorded.
from_distdir() {
	local name
	[ -n "${DISTDIR:-}" ] || return 1
	while read -r _ name; do
		# shellcheck disable=SC2053
		[[ $name = $2 && -f $DISTDIR/$name ]] || continue
		if has_sum "$1" "$DISTDIR/$name"; then
			realpath "$DISTDIR/$name"
			return
		fi
		say "$DISTDIR/$name is not used: its sum is not that of ${1#"$top"/}"
	done <"$1"
	return 1
}

# debian_mirror: prints the address of the mirror that this machine has its release from, and the file of its key
debian_mirror() {
	local release target uri entry key
	# shellcheck source=/dev/null
	release=$(. /etc/os-release && echo "$VERSION_CODENAME")
	target() {
		apt-get indextargets --format '$(RELEASE) $(ORIGIN) $(COMPONENT) $(REPO_URI) $(SOURCESENTRY)' 'Created-By: Packages' |
			sed -n "s/^$release Debian main //p" | head -n 1
	}
	target=$(target)
	# without lists apt has no targets
	[ -n "$target" ] || { apt-get -q update >&2 && target=$(target); }
	[ -n "$target" ] || return 1
	read -r uri entry <<<"$target"
	key=$(sed -nE 's,.*signed-by[:=] *(/[^] \,]*).*,\1,Ip' "${entry%:*}" | head -n 1)
	echo "$uri ${key:-/usr/share/keyrings/debian-archive-keyring.gpg}"
}

# private_apt <deb or deb-src> <suite>...: from here on candidates and download are about binary packages, or source
# packages, of these suites. Reads their lists once a day.
private_apt() {
	local mirror key suites=("${@:2}")
	apt_type=$1
	apt_dir=$cache/apt/$(IFS=-; echo "$*")
	[ -z "$(find "$apt_dir/ready" -mtime -1 2>/dev/null)" ] || return 0
	read -r mirror key < <(debian_mirror) || { say "no Debian mirror in this machine's apt sources"; return 1; }
	mkdir -p "$apt_dir"/{state/lists/partial,cache/archives/partial}
	printf "$apt_type [signed-by=$key] $mirror %s main\n" "${suites[@]}" >"$apt_dir/sources.list"
	say "  reading the lists of ${suites[*]} from $mirror"
	if apt_private apt-get update --error-on=any >&2; then
		touch "$apt_dir/ready"
	else
		say "  not all of them can be read"
	fi
}
apt_private() {
	"$1" -qq -o APT::Sandbox::User=root -o Acquire::Languages=none -o Dir::State="$apt_dir/state" -o Dir::Cache="$apt_dir/cache" \
		-o Dir::State::status=/var/lib/dpkg/status -o Dir::Etc::sourcelist="$apt_dir/sources.list" \
		-o Dir::Etc::sourceparts=/dev/null "${@:2}"
}

# candidates <package> [<oldest upstream version>]: prints the versions that the suites have, newest first
candidates() {
	local version
	apt_private apt-cache madison "$1" | awk -F ' *[|] *' '{ print $2 }' | sort -uVr | while read -r version; do
		dpkg --compare-versions "${version#*:}" lt "${2:-0}" || echo "$version"
	done
}

# download <package> <version> <folder> <sums file>: prints the path of the .deb, or of a source package's upstream archive.
# A sum that is recorded for it has to match; fails if it is not to be had.
download() {
	local plain=${2#*:} files rc=0
	mkdir -p "$3"
	say "  downloading $1 $plain"
	if [ "$apt_type" = deb ]; then
		(cd "$3" && apt_private apt-get download "$1=$2") >&2 || return 1
		files=("$3/$1_${2/:/%3a}"_*.deb)
	else
		(cd "$3" && apt_private apt-get source --tar-only --only-source "$1=$2") >&2 || return 1
		files=("$3/$1_${plain%-*}".orig.tar.*z)
	fi
	[ -f "${files[0]}" ] || { say "${files[0]} did not come"; return 1; }
	has_sum "$4" "${files[0]}" || rc=$?
	if [ "$rc" = 1 ]; then
		rm -f "${files[0]}"
		say "${files[0]} does not have the sum of ${4#"$top"/}: removed"
		return 1
	fi
	echo "${files[0]}"
}
