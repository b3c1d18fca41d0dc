#!/usr/bin/env bash
# Builds a free-threaded CPython into a directory: build.sh DIRECTORY
#
# TARBALL names CPython's source. Without it the source is Debian's: the machine's own
# package source is asked for the suite SUITE, in lists and caches of this script's own, so
# that nothing of the system changes and no root is needed. The signature is apt's to check.
set -euo pipefail
shopt -s inherit_errexit

SUITE=${SUITE:-trixie}
PACKAGE=${PACKAGE:-python3.13}
target=$(realpath --canonicalize-missing "$1")
work=$target.work

download() {
    local sources
    sources=$(ls /etc/apt/sources.list.d/debian.sources 2>/dev/null) || {
        echo "build.sh: no Debian package source here: give TARBALL=…" >&2
        return 1
    }
    mkdir -p "$work/apt/lists/partial" "$work/apt/cache/archives/partial"
    # The first stanza is the archive's; those after it are for security updates.
    awk 'BEGIN { RS = "" } NR == 1' "$sources" |
        sed "s/^Types:.*/Types: deb-src/; s/^Suites:.*/Suites: $SUITE/" >"$work/apt/debian.sources"
    local apt=(apt-get --quiet --quiet
        -o "Dir::Etc::SourceList=$work/apt/debian.sources" -o Dir::Etc::SourceParts=-
        -o "Dir::State::Lists=$work/apt/lists" -o "Dir::Cache=$work/apt/cache"
        -o APT::Sandbox::User="$(id --user --name)")
    "${apt[@]}" update
    (cd "$work" && "${apt[@]}" source --tar-only "$PACKAGE" >/dev/null)
    ls "$work/$PACKAGE"_*.orig.tar.xz
}

rm -rf "$target" "$work"
mkdir -p "$work/source"
tarball=${TARBALL:-$(download)}
tar --extract --file "$tarball" --directory "$work/source" --strip-components 1
cd "$work/source"
{ ./configure --disable-gil --prefix="$target" && make -j"$(nproc)" && make install; } \
    >"$work/log" 2>&1 || { tail -n 20 "$work/log" >&2 && exit 1; }
rm -rf "$work"
