"""The command `gpuio`: one file for each subcommand, imported when that subcommand is called.

Each file has `configure(parser)`, which adds the arguments, and `run(args)`, which returns the exit
status: 2 for a wrong call or an unusable file, 130 for an interrupt, 143 for SIGTERM, 129 for a
closed terminal.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib import import_module
from typing import Final, NoReturn

from gpuio import __version__

COMMANDS: Final = {
    "im2rec": "make lists of images, or pack listed images into .rec and .idx",
    "rec2idx": "make the .idx of a .rec",
    "info": "tell what is in .rec files",
    "verify": "find the damaged records and images of .rec files",
    "show": "draw images of a .rec on one sheet",
    "bench": "measure how fast a .rec is loaded, and what limits it",
    "warm": "compile kernels ahead, so that no first batch waits for it",
}

_INTERRUPTED: Final = 130
_SIGNALLED: Final = 128  # and the number of the signal
_ENDING: Final = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]


def script() -> NoReturn:
    """Run the command as a process that ends at once when a signal arrives."""
    status = main()
    if status > _SIGNALLED:
        # A normal exit waits for running threads, which may hang in a read from a dead disk.
        with suppress(OSError, ValueError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status)
    sys.exit(status)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one subcommand.

    Args:
        argv: Arguments without the name of the program; those of the process if None.

    Returns:
        The exit status.
    """
    from gpuio.core.extras import explained
    from gpuio.errors import GpuioError

    argv = sys.argv[1:] if argv is None else list(argv)
    try:
        with _interruptible(), explained(f"gpuio {argv[0]}" if argv else "gpuio"):
            args = _parse(argv)
            return int(args.run(args))
    except Terminated as end:
        return _fail("terminated", _SIGNALLED + end.number)
    except KeyboardInterrupt:
        return _fail("interrupted", _INTERRUPTED)
    except BrokenPipeError:  # the reader of the output, such as `head`, has ended
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (GpuioError, OSError, ValueError) as error:
        return _fail(str(error), 2)
    except ModuleNotFoundError as error:
        return _fail(f"{error}; install what is missing with pip", 2)


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = _parser(argv)
    args, unknown = parser.parse_known_args(argv)
    if unknown:
        command = getattr(args, "command", parser)
        hints = "".join(_hints(unknown, command))
        command.error(f"unrecognized arguments: {' '.join(unknown)}{hints}")
    return args


def _hints(arguments: Sequence[str], parser: argparse.ArgumentParser) -> Iterator[str]:
    """One line for each unknown option: the option that was probably meant."""
    from gpuio.core.suggestions import suggestion

    flags = [flag for flag in parser._option_string_actions if not flag.startswith("--no-")]
    known = [flag.removeprefix("--").replace("-", "_") for flag in flags]
    for argument in arguments:
        flag = argument.partition("=")[0]
        hint = suggestion(flag.lstrip("-").replace("-", "_"), known, _option)
        if flag.startswith("-") and hint:
            yield f"\n{flag}{hint}"


def _option(name: str, value: str) -> str:
    """A parameter of the iterators, with its value if any, as it is written on a command line."""
    flag = name.replace("_", "-")
    if value == "False":
        return f"--no-{flag}"
    return f"--{flag} {value.strip(chr(39))}".rstrip()


class Terminated(KeyboardInterrupt):
    """A signal asked the process to end; unfinished files are removed as after Ctrl-C.

    Attributes:
        number: SIGTERM, or SIGHUP when the terminal was closed.
    """

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


@contextmanager
def _interruptible() -> Iterator[None]:
    """Make SIGTERM and SIGHUP raise `Terminated`, and SIGINT raise `KeyboardInterrupt`.

    Handlers that were set by others stay. SIGINT is handled even where it is ignored, which is the
    default for commands that a shell script starts with `&`.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    replaced = []
    try:
        for number, usual, handler in (
            *((number, signal.SIG_DFL, _terminate) for number in _ENDING),
            (signal.SIGINT, signal.SIG_IGN, signal.default_int_handler),
        ):
            if signal.getsignal(number) == usual:
                replaced.append((number, usual))
                signal.signal(number, handler)
        yield
    finally:
        for number, usual in replaced:
            signal.signal(number, usual)


def _terminate(number: int, frame: object) -> None:
    raise Terminated(number)


def _parser(argv: Sequence[str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="gpuio",
        description="RecordIO image sets: make, index, inspect, check.",
        epilog="`gpuio COMMAND --help` explains one command.",
    )
    version = f"gpuio {__version__}"
    parser.add_argument(
        "--version", action="version", version=version, help="print the version and exit"
    )
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for name, summary in COMMANDS.items():
        command = commands.add_parser(name, help=summary, description=f"{summary.capitalize()}.")
        if name in argv[:1]:
            module = import_module(f"gpuio.cli.{name}")
            module.configure(command)
            command.set_defaults(run=module.run, command=command)
    return parser


def _fail(message: str, status: int) -> int:
    print(f"gpuio: {message}", file=sys.stderr)
    return status
