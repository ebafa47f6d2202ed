"""The command line: a file for each verb, which parses options, calls a function and prints.

No framework is imported until one is needed. Exit codes: 0; 2 for a usage error; 1, with one line
on stderr, for any other error; 130 after Ctrl-C. What verbs share: ``options``, ``progress``,
``figures``, ``stylized`` and ``tables``.
"""

from __future__ import annotations

import os
import sys
import warnings

import typer

from convscope._cli.ablate import ablate
from convscope._cli.attribute import attribute
from convscope._cli.compare import compare
from convscope._cli.demo import demo
from convscope._cli.diagnose import diagnose
from convscope._cli.dream import dream
from convscope._cli.export import export
from convscope._cli.filters import filters
from convscope._cli.layers import layers
from convscope._cli.maps import maps
from convscope._cli.maximize import maximize
from convscope._cli.predict import predict
from convscope._cli.report import report
from convscope._cli.scan import scan
from convscope._cli.sensitivity import sensitivity
from convscope._cli.serve import serve
from convscope._cli.style import style
from convscope._cli.top import top
from convscope._cli.train import train
from convscope._errors import ConvscopeError

app = typer.Typer(
    name="convscope",
    help="A microscope for convolutional networks: see what every layer and channel responds to.",
    epilog="MODEL is demo, torchvision:NAME, timm:NAME, keras:NAME, a .keras, .h5 or .safetensors "
    "file, or FILE.py:factory, with options after commas: torchvision:vgg16,weights=none. It "
    "defaults to $CONVSCOPE_MODEL, then to demo. --debug prints the full traceback of an error.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for _verb in (
    demo,
    layers,
    predict,
    maps,
    filters,
    maximize,
    dream,
    style,
    attribute,
    ablate,
    sensitivity,
    diagnose,
    compare,
    scan,
    top,
    report,
    serve,
    export,
    train,
):
    app.command()(_verb)


@app.callback(invoke_without_command=True)
def _version(version: bool = typer.Option(False, "--version", help="Print the version.")) -> None:
    if version:
        from convscope import __version__

        print(f"convscope {__version__}")
        raise typer.Exit


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit."""
    arguments = sys.argv[1:] if arguments is None else arguments
    # Torch's threads spin while they wait for each other, which costs ten times the work itself
    # where other processes use the same cores. Threads that sleep cost next to nothing.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    debug = "--debug" in arguments
    if not debug:  # the warnings of libraries are for developers
        warnings.simplefilter("ignore")
    try:
        app([argument for argument in arguments if argument != "--debug"], standalone_mode=True)
    except ConvscopeError as error:
        if debug:
            raise
        print(f"convscope: {error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print("convscope: interrupted", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:  # the reader of the output, such as `head`, has exited
        sys.stderr.close()
        sys.exit(0)
