"""``ingest config``: the settings in effect, and where they come from."""

from .command import command
from .options import Output, UserSite
from .output import write_json


@command
def config(site: UserSite, output: Output) -> None:
    """Show every setting, its value and where it comes from."""
    settings = site.settings
    rows = [
        {
            "section": value.option.section,
            "key": value.option.key,
            "value": value.shown,
            "origin": value.origin,
            "variable": value.option.variable,
            "meaning": value.option.meaning,
        }
        for value in settings.values
    ]
    if output.json:
        write_json(rows, indent=2)
        return
    for row in rows:
        print(f"[{row['section']}] {row['key']} = {row['value'] or '(none)'}")
        print(f"    {row['meaning']}; from: {row['origin']}; variable: {row['variable']}")
