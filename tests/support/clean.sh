#!/bin/sh
# Remove what the Makefile's targets made in this checkout, the demo's data too.
set -eu

# The demo holds its folder while it runs; its data is not taken from under it.
if [ -e .demo/lock ] && command -v flock >/dev/null 2>&1 && ! flock -n .demo/lock true; then
    echo "clean: a demo is running: stop it first" >&2
    exit 1
fi
# Where the server's user can't reach the checkout, the demo's data is in a folder of its own.
if [ -f .demo/postgres.elsewhere ]; then
    elsewhere=$(cat .demo/postgres.elsewhere)
    case $elsewhere in
        *..*) ;;
        /var/tmp/proxyd-demo-*) [ -O "$elsewhere" ] && rm -rf -- "$elsewhere" ;;
    esac
fi
rm -rf .venv .demo .peers .proxyd build dist ./*.egg-info _trial_temp* \
    .mypy_cache .ruff_cache .hypothesis twisted/plugins/dropin.cache
find . -name __pycache__ -not -path './.git/*' -prune -exec rm -rf {} +
