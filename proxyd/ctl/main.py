"""
proxyctl, the command beside the daemon: its commands, and how each of them ends.

Exit codes: 0 done, 1 refused or failed with the reason on stderr, 2 wrong
usage. No command ends in a traceback.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence
from typing import NoReturn

import click

import proxyd
from proxyd.ctl.agents import agents
from proxyd.ctl.check import check
from proxyd.ctl.databases import databases
from proxyd.ctl.doctor import doctor
from proxyd.ctl.init import init
from proxyd.ctl.proxies import proxies
from proxyd.ctl.routes import routes
from proxyd.ctl.sessions import sessions
from proxyd.ctl.status import status
from proxyd.ctl.tokens import tokens
from proxyd.errors import ConfigError, StartError

DONE, FAILED, WRONG_USAGE = 0, 1, 2


@click.group(no_args_is_help=False, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(proxyd.__version__, prog_name="proxyctl", message="%(prog)s %(version)s")
def proxyctl() -> None:
    """Check and look after proxyd."""


for command in (
    check, init, status, databases, tokens, agents, proxies, sessions, routes, doctor,
):  # fmt: skip
    proxyctl.add_command(command)


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run one command and end the process with its exit code."""
    sys.exit(run(sys.argv[1:] if arguments is None else arguments))


def run(arguments: Sequence[str], command: click.Command = proxyctl) -> int:
    """
    Run one command.

    @param arguments: what stood on the command line after C{proxyctl}
    @param command: what to run; proxyctl itself, unless a test says otherwise
    @return: the exit code; what went wrong has been said on stderr
    """
    try:
        result = command.main(list(arguments), prog_name="proxyctl", standalone_mode=False)
        sys.stdout.flush()
    except click.UsageError as error:
        _complain(f"{error.format_message()} (proxyctl --help tells the commands)")
        return WRONG_USAGE
    except click.ClickException as error:
        _complain(error.format_message())
        return error.exit_code
    except click.Abort:
        _complain("interrupted")
        return FAILED
    except ConfigError as error:
        for problem in error.problems:
            click.echo(str(problem), err=True)
        return FAILED
    except StartError as error:
        _complain(str(error))
        return FAILED
    except BrokenPipeError:
        # Whoever read our output has left; the interpreter must not fail over it once more.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except OSError as error:
        _complain(": ".join(str(part) for part in (error.filename, error.strerror) if part))
        return FAILED
    except Exception as error:
        # The last door: a bug is told in one line too, without its text, which may hold a secret.
        place = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{os.path.basename(place.filename)}:{place.lineno}"
        _complain(f"a bug in proxyctl: {type(error).__name__} at {where}")
        return FAILED
    return result if isinstance(result, int) else DONE


def _complain(what: str) -> None:
    """Say in one line on stderr why a command did not do what was asked."""
    click.echo(f"proxyctl: {' '.join(what.split())}", err=True)
