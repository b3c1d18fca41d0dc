"""`scriptling-ws completion bash` or `zsh`: what completes the command's words in a shell."""

from __future__ import annotations

import argparse
from typing import Any, Final

from .connect_arguments import connect_parser
from .examples import examples_parser
from .failing import fail
from .server_arguments import server_parser

__all__ = ["main"]

_SHELLS: Final = ("bash", "zsh")
# Options that are followed by a file's name, or a directory's.
_FILES: Final = (
    *("--access-log", "--cacert", "--cert", "--key", "--save", "--send-file", "--tls-cert"),
    "--tls-key",
)
_DIRECTORIES: Final = ("-L", "--copy")


def main(arguments: list[str]) -> int:
    """Print the completion for a shell."""
    parser = completion_parser()
    shell = parser.parse_args(arguments).shell
    try:
        import shtab  # of the extra `cli`
    except ImportError:
        fail(parser, "completion needs shtab: pip install 'scriptling-ws[cli]'")
    print(shtab.complete(_whole(shtab), shell))
    return 0


def completion_parser() -> argparse.ArgumentParser:
    """The parser of `scriptling-ws completion`."""
    parser = argparse.ArgumentParser(
        prog="scriptling-ws completion",
        description="Print what completes the command's words in a shell. "
        'bash: eval "$(scriptling-ws completion bash)" in ~/.bashrc. zsh: scriptling-ws '
        "completion zsh > _scriptling-ws, in a directory of $fpath.",
    )
    parser.add_argument("shell", choices=_SHELLS, help="which shell")
    return parser


def _whole(shtab: Any) -> argparse.ArgumentParser:
    """A parser of all forms, for their words alone: the command itself asks for one at a time."""
    whole = argparse.ArgumentParser(
        prog="scriptling-ws", parents=[_without_script()], add_help=False
    )
    forms = whole.add_subparsers(dest="form")
    for name, made, words in (
        ("connect", connect_parser(), "talk to a server"),
        ("examples", examples_parser(), "programs to start from"),
        ("completion", completion_parser(), "what completes these words"),
        ("demo", argparse.ArgumentParser(), "the library's calls at work"),
    ):
        forms.add_parser(name, parents=[made], add_help=False, help=words)
    for parser in (whole, *forms.choices.values()):
        for action in parser._actions:
            if set(action.option_strings) & set(_FILES):
                action.complete = shtab.FILE  # type: ignore[attr-defined]  # shtab's word
            elif set(action.option_strings) & set(_DIRECTORIES):
                action.complete = shtab.DIRECTORY  # type: ignore[attr-defined]  # likewise
    return whole


def _without_script() -> argparse.ArgumentParser:
    """The server's parser without the script, in whose place are the names of the other forms."""
    parser = server_parser()
    script = next(action for action in parser._actions if action.dest == "script")
    parser._remove_action(script)
    parser._positionals._group_actions.remove(script)
    return parser
