"""``ingest deploy KIND [NAME...]``."""

import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .command import command
from .options import Output, Site
from .output import notify, say, warn, write_json

if TYPE_CHECKING:
    from ..deployment import Deployment, Kind

PUBLIC = 0o644


def kinds() -> list[str]:
    """The kinds of files."""
    from ..deployment import Kind

    return list(Kind)


def names(ctx: typer.Context) -> list[str]:
    """The names of the files of a kind."""
    from ..deployment import Kind, names_of

    try:
        return names_of(Kind(ctx.params.get("kind") or ""))
    except ValueError:
        return []


@command
def deploy(
    kind: Annotated[
        str,
        typer.Argument(
            metavar="KIND", help="What the files are for: systemd, container or cluster.", autocompletion=kinds
        ),
    ],
    wanted: Annotated[
        list[str] | None,
        typer.Argument(metavar="NAME", help="Only these of its files.", show_default=False, autocompletion=names),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="Write the files into this folder instead of printing them.", metavar="FOLDER"
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace files that are there.")] = False,
    run_as: Annotated[
        str | None,
        typer.Option(
            "--run-as", help="The account of the services; by default your own, but never root.", metavar="NAME"
        ),
    ] = None,
    *,
    site: Site,
    answer: Output,
) -> None:
    """Print files for systemd, containers or many hosts.

    With these the program runs permanently. They are filled in for this site: its program, its configuration and its
    folders.
    """
    from ..deployment import Deployment, Kind, files_for, this_program

    which = _kind(kind)
    settings = site.settings
    deployment = Deployment(
        settings=settings, config=_config(site.config), program=this_program(), run_as=run_as or _account()
    )
    files = _named(files_for(which, deployment), wanted)
    if output is not None:
        _write(files, output, force=force)
    if answer.json:
        _write_json(files, output)
    else:
        _say(files, output)
    if which is Kind.SYSTEMD:
        _advise_on_units(deployment)
        if output is not None:
            _say_how_to_start(files, deployment)
    else:
        _advise_on_containers(deployment)


def _write_json(files: dict[str, str], output: Path | None) -> None:
    targets = {name: None if output is None else str(output.absolute() / name) for name in files}
    write_json([{"name": name, "text": text, "target": targets[name]} for name, text in files.items()], indent=2)


def _say(files: dict[str, str], output: Path | None) -> None:
    """Print the files, or which were written."""
    if output is None:
        print("\n".join(files.values()), end="", flush=True)
    else:
        for name in files:
            say(f"wrote {output / name}")


def _kind(text: str) -> "Kind":
    from ..deployment import Kind
    from ..errors import SettingsError

    try:
        return Kind(text)
    except ValueError:
        raise SettingsError(f"{text!r} is none of {', '.join(Kind)}") from None


def _config(given: Path | None) -> Path | None:
    from ..settings import config_path

    path = given or config_path(os.environ)
    return path.absolute() if path is not None and path.is_file() else None


def _account() -> str:
    from ..settings import login_name

    return login_name() if os.getuid() else "ingest"


def _named(files: dict[str, str], wanted: list[str] | None) -> dict[str, str]:
    from ..errors import SettingsError

    for name in wanted or []:
        if name not in files:
            raise SettingsError(f"there is no file {name!r}: there are {', '.join(files)}")
    return {name: files[name] for name in wanted} if wanted else files


def _write(files: dict[str, str], folder: Path, *, force: bool) -> None:
    """Write all of them, or none where one is there that is not to be replaced. Raises SettingsError."""
    from ..disk import durable_write, explained
    from ..errors import SettingsError

    for name in files:
        if not force and os.path.lexists(folder / name):
            raise SettingsError(f"{folder / name} is there already: --force replaces it")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            with durable_write(folder / name, mode=PUBLIC, replace=force) as file:
                file.write(text.encode())
    except OSError as error:
        raise explained(error, f"cannot write into {folder}", SettingsError, folder) from error


def _advise_on_units(deployment: "Deployment") -> None:
    """Say what has to be there before the units can start."""
    import pwd

    account = deployment.run_as
    try:
        pwd.getpwnam(account)
    except KeyError:
        notify(f"there is no account {account} yet: useradd --system --home-dir /var/lib/{account} {account}")
    for folder in deployment.folders:
        if not folder.is_dir():
            notify(f"there is no folder {folder} yet: install -d -o {account} {folder}")
    for path in _out_of_reach(deployment):
        warn(f"{path} is in your home folder, where {account} may not get at it")
    if deployment.config is None:
        notify("there is no configuration file: the units name every place themselves; see 'ingest config init'")
    for option in deployment.unwritten:
        warn(f"{option.variable} is a secret, and stands in no unit: set [{option.section}] {option.key} in the file")


def _say_how_to_start(files: dict[str, str], deployment: "Deployment") -> None:
    notify("when they are in /etc/systemd/system: systemctl daemon-reload")
    if "ingest.socket" in files:
        notify("to have bundles received over HTTP: systemctl enable --now ingest.socket")
    if "ingest-prune.timer" in files:
        notify("to have old jobs removed each day: systemctl enable --now ingest-prune.timer")
    if "ingest-events.timer" in files and deployment.settings.notifications.receivers:
        notify("to have events sent that wait: systemctl enable --now ingest-events.timer")
    if "ingest-watch@.service" in files:
        for folder in deployment.settings.watch.folders:
            instance = f"$(systemd-escape --path {shlex.quote(str(folder))})"
            notify(f'to have {folder} watched: systemctl enable --now "ingest-watch@{instance}"')


def _out_of_reach(deployment: "Deployment") -> list[Path]:
    """What lies in the home folder of somebody else than the account."""
    from ..settings import login_name

    if deployment.run_as == login_name():
        return []
    config = [] if deployment.config is None else [deployment.config]
    return [
        path for path in (Path(deployment.program[0]), *config, *deployment.folders) if path.is_relative_to(Path.home())
    ]


def _advise_on_containers(deployment: "Deployment") -> None:
    """Say which settings of this machine a container cannot have."""
    from ..deployment import local_values

    for value in local_values(deployment.settings):
        notify(f"left out, as it is of this machine: [{value.option.section}] {value.option.key} = {value.shown}")
