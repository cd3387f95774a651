#!/bin/sh
# Make a virtual environment with proxyd and all that its development needs.
#
#   venv.sh FOLDER
#
# An environment that is there is brought up to date. Python 3.11 or newer is looked
# for by its usual names; PYTHON=... names one outright.
set -eu

venv=$1
recent='import sys; sys.exit(sys.version_info < (3, 11))'

find_python() {
    for name in ${PYTHON:-python3 python3.11 python3.12 python3.13 python3.14 python}; do
        if command -v "$name" >/dev/null 2>&1 && "$name" -c "$recent" 2>/dev/null; then
            command -v "$name"
            return
        fi
    done
    echo "set-up: Python 3.11 or newer is needed, and was not found on the path" >&2
    exit 1
}

make_venv() {
    "$1" -m venv "$venv" && return
    # Debian keeps what venv needs in a package of its own.
    rm -rf "$venv"
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
        apt-get update -qq </dev/null
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq python3-venv </dev/null >&2
        "$1" -m venv "$venv" && return
    fi
    echo "set-up: $1 can't make a virtual environment; on Debian: apt install python3-venv" >&2
    exit 1
}

if ! "$venv/bin/python" -c "$recent" 2>/dev/null; then
    python=$(find_python)
    echo "set-up: making $venv with $python" >&2
    make_venv "$python"
fi
# The pip that comes with Python is new enough: nothing is asked of a newer one.
echo "set-up: installing proxyd and its tools into $venv" >&2
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check \
    --editable '.[test,dev]' </dev/null
# Twisted keeps a list of all plugins; made now, it is right when another user runs twistd.
"$venv/bin/twistd" --help >/dev/null
