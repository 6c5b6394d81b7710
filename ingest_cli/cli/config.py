"""``ingest config``: what is in effect, and why."""

import json as json_format

from .options import Config, Db, Debug, Json, User, settings_of


def config(config: Config = None, db: Db = None, user: User = None, json: Json = False, debug: Debug = False) -> None:
    """Show every setting, its value and where it came from."""
    settings = settings_of(config, db, user)
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
    if json:
        print(json_format.dumps(rows, indent=2))
        return
    for row in rows:
        print(f"[{row['section']}] {row['key']} = {row['value'] or '(none)'}")
        print(f"    {row['meaning']}; from: {row['origin']}; variable: {row['variable']}")
