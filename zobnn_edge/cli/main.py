"""`zobnn`: the verbs, and what every one of them promises about errors and exit codes (docs/design.md, section 6)."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from zobnn_edge import __version__
from zobnn_edge.cli import audit, campaign, demo, hardware, models, verify, worst_case
from zobnn_edge.errors import ZobnnError

OK, BAD_INPUT, INTERRUPTED = 0, 2, 130

app = typer.Typer(
    name="zobnn",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
models.register(app)
hardware.register(app)
verify.register(app)
campaign.register(app)
worst_case.register(app)
audit.register(app)
demo.register(app)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"zobnn-edge {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Binary neural networks on microcontrollers: import, harden against bit flips, deploy, inject, measure.

    NET is a .zob file, anything `zobnn import` takes, or zoo:NAME. TARGET is host, native, qemu:BOARD,
    serial:PORT, gdb:BOARD or gdb:HOST:PORT,FW.elf.
    Exit codes: 0 success, 1 a check failed, 2 bad input or use, 130 interrupted.
    """


def main() -> None:
    """Run the command line and exit."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run one command; returns its exit code. Errors a user can cause print one line on stderr."""
    try:
        code = app(arguments, standalone_mode=False, prog_name="zobnn")
    except typer.TyperException as error:
        return _fail(f"{error.format_message()} (see zobnn --help)", BAD_INPUT)
    except ZobnnError as error:
        return _fail(str(error), BAD_INPUT)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # nobody reads: nothing left to say
        return OK
    if code == INTERRUPTED:  # typer turns Ctrl-C into this code
        return _fail("interrupted", INTERRUPTED)
    return code if isinstance(code, int) else OK


def _fail(message: str, code: int) -> int:
    print("zobnn: " + " ".join(message.split()), file=sys.stderr)
    return code


if __name__ == "__main__":
    main()
