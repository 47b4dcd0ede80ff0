"""`fleet completion`: what a shell needs to complete our commands and options; click knows how."""

import click
from click.shell_completion import get_completion_class


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print a script for SHELL that completes commands and options.

    \b
    bash  eval "$(fleet completion bash)"            in ~/.bashrc
    zsh   eval "$(fleet completion zsh)"             in ~/.zshrc
    fish  fleet completion fish | source             in ~/.config/fish/config.fish
    """  # noqa: D301 - click wants the character
    kind = get_completion_class(shell)
    assert kind is not None  # noqa: S101 - click brings these three
    click.echo(kind(context.find_root().command, {}, "fleet", "_FLEET_COMPLETE").source())
