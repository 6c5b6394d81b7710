"""``ingest config``: the settings in effect, and where they come from."""

from .command import command
from .options import Output, UserSite
from .output import say, warn, write_json


@command
def config(site: UserSite, output: Output) -> None:
    """Show every setting, its value and where it comes from."""
    from ..settings import homeless, settings_of

    values = site.values
    wanted = homeless(values)
    if wanted is None:
        settings_of(values)  # says what cannot be used
    rows = [
        {
            "section": value.option.section,
            "key": value.option.key,
            "value": value.shown,
            "origin": value.origin,
            "variable": value.option.variable,
            "meaning": value.option.meaning,
        }
        for value in values
    ]
    if wanted is not None:
        warn(wanted)
    if output.json:
        write_json(rows, indent=2)
        return
    for row in rows:
        say(f"[{row['section']}] {row['key']} = {row['value'] or '(none)'}")
        say(f"    {row['meaning']}; from: {row['origin']}; variable: {row['variable']}")
