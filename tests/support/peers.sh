#!/bin/sh
# See that the peer programs of the tests and benchmarks are there.
#
#   peers.sh FOLDER [PYTHON]
#
# What the machine lacks is downloaded by apt where that is at hand and we are root,
# and only unpacked into FOLDER: nothing is installed, and no service is started. FOLDER/bin
# then has a starter for each program. Servers of more versions come as wheels into
# the environment of PYTHON, and websocket-tunnel into one of its own below FOLDER. Never
# fails: what can't be had is named, and the tests that need it skip.
set -u

folder=$1
programs='haproxy psql pgbench pg_dump pg_restore pgbouncer sshd ssh ssh-add ssh-agent ssh-keygen microsocks danted proxychains4 nc.openbsd'
# It is big, and fetched by itself, so that the others don't depend on it.
browser='chromium'
# Of PyPI; what it needs is kept apart from what proxyd needs.
tunnel='websocket-tunnel==0.3.2'

have() {
    PATH="$folder/bin:$PATH:/usr/sbin" command -v "$1" >/dev/null 2>&1
}

missing() {
    for program in $programs; do
        have "$program" || echo "$program"
    done
}

missing_browser() {
    have "$browser" || echo "$browser"
}

package_of() {
    # pgbench is in the server's package; the numbered packages have the programs themselves.
    case $1 in
        haproxy | pgbouncer | microsocks | proxychains4 | "$browser") echo "$1" ;;
        danted) echo dante-server ;;
        nc.openbsd) echo netcat-openbsd ;;
        sshd) echo openssh-server ;;
        ssh | ssh-*) echo openssh-client ;;
        pgbench) numbered 'postgresql-[0-9]+' ;;
        *) numbered 'postgresql-client-[0-9]+' ;;
    esac
}

numbered() {
    apt-cache search --names-only "^$1\$" | cut -d' ' -f1 | sort -V | tail -n 1
}

download() {
    apt-get install -y -qq --no-install-recommends --reinstall --download-only \
        -o DPkg::Lock::Timeout=120 -o Dir::Cache::archives="$(cd "$folder/debs" && pwd)" "$@" </dev/null
}

unpack() {
    mkdir -p "$folder/debs/partial" "$folder/root" "$folder/bin" || return
    # What another user may run (the server's) must be reachable for it.
    chmod 755 "$folder" "$folder/root" "$folder/bin"
    packages=$(for program in $1; do package_of "$program"; done | sort -u)
    [ -n "$packages" ] || return
    # shellcheck disable=SC2086 # one word a package
    if ! download $packages; then
        # One that can't be had keeps nobody from the others.
        for package in $packages; do
            download "$package"
        done
    fi
    for deb in "$folder"/debs/*.deb; do
        [ -e "$deb" ] && dpkg -x "$deb" "$folder/root"
    done
    rm -f "$folder"/debs/*.deb
    root=$(cd "$folder/root" && pwd)
    libraries=$(find "$root" \( -name '*.so' -o -name '*.so.*' \) -exec dirname {} \; | sort -u | paste -sd:)
    for program in $1; do
        # The browser's file in bin is a script that looks below /usr: the program itself is
        # in lib, which comes last.
        found=$(find "$root" -type f -name "$program" -perm -u+x \
            \( -path '*bin/*' -o -path '*/lib/chromium/*' \) | sort -V | tail -n 1)
        [ -n "$found" ] || continue
        printf '#!/bin/sh\nexport LD_LIBRARY_PATH="%s${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"\nexec "%s" "$@"\n' \
            "$libraries" "$found" >"$folder/bin/$program"
        chmod 755 "$folder/bin/$program"
    done
}

fetch_tunnel() {
    "$1" -m venv "$folder/tunnel" || return
    "$folder/tunnel/bin/python" -m pip install --quiet --disable-pip-version-check \
        --retries 2 --timeout 10 "$tunnel" </dev/null || return
    mkdir -p "$folder/bin" || return
    printf '#!/bin/sh\nexec "%s" "$@"\n' "$(cd "$folder/tunnel/bin" && pwd)/wtunnel" >"$folder/bin/wtunnel"
    chmod 755 "$folder/bin/wtunnel"
}

missing_tunnel() {
    have wtunnel || echo wtunnel
}

mkdir -p "$folder"
wanted=$(missing)
surfing=$(missing_browser)
if [ -n "$wanted$surfing" ] && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
    echo "set-up: unpacking for tests:" $wanted $surfing >&2
    apt-get update -qq </dev/null >&2 || true
    [ -z "$wanted" ] || unpack "$wanted" >&2
    [ -z "$surfing" ] || unpack "$surfing" >&2
fi
if [ -n "${2:-}" ] && ! have wtunnel; then
    echo "set-up: fetching for benchmarks: $tunnel" >&2
    fetch_tunnel "$2" >&2
fi
still=$(missing; missing_browser; missing_tunnel)
[ -z "$still" ] || echo "set-up: not on this machine, their tests skip:" $still >&2
[ -z "${2:-}" ] || "$2" - <<'END'
import sys
from demo.binaries import NoServer, find_binaries
for major in (17, 18):
    try:
        find_binaries(major)
    except NoServer as error:
        print(f"set-up: tests skip: {error}", file=sys.stderr)
END
exit 0
