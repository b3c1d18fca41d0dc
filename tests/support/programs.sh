#!/bin/sh
# Installs the programs that tests start beside the package, from Debian's packages: nginx,
# HAProxy, Caddy, Chromium, Redis, OpenSSL, tinyproxy, microsocks and dante. As root on a Debian;
# elsewhere it names those that are missing. It fails if one is missing in the end.
set -eu

# Debian has servers in a directory that is not on the PATH of every user.
PATH="$PATH:/usr/local/sbin:/usr/sbin"
policy=/usr/sbin/policy-rc.d

installed() {
    case $1 in
        chromium) names="chromium chromium-browser google-chrome" ;;
        redis-server) names="redis-server valkey-server" ;;
        dante-server) names="danted sockd" ;;
        *) names=$1 ;;
    esac
    for name in $names; do
        if command -v "$name" >/dev/null; then return 0; fi
    done
    return 1
}

missing() {
    for program in nginx haproxy caddy chromium redis-server openssl tinyproxy microsocks \
        dante-server; do
        installed "$program" || printf '%s ' "$program"
    done
}

apt() {
    DEBIAN_FRONTEND=noninteractive apt-get -qq -o Acquire::Retries=2 -o Acquire::http::Timeout=30 \
        -o DPkg::Lock::Timeout=60 "$@" </dev/null >/dev/null
}

if [ -n "$(missing)" ] && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    # No service is started: the tests start programs of their own.
    if [ ! -e "$policy" ]; then
        trap 'rm -f "$policy"' EXIT
        printf '#!/bin/sh\nexit 101\n' >"$policy"
        chmod +x "$policy"
    fi
    apt update || true
    for program in $(missing); do
        apt install --yes --no-install-recommends "$program" || true
    done
fi

for program in $(missing); do
    echo "$program is not installed: the tests with it are skipped" >&2
done
[ -z "$(missing)" ]
