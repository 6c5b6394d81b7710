"""The queue as Procrastinate shows it: ``procrastinate --app ingest_cli.jobs.procrastinate_app.app shell``.

The database is that of libpq's variables, such as PGHOST and PGDATABASE. The program itself has no use for this.
"""

from procrastinate import App, PsycopgConnector

app = App(connector=PsycopgConnector())
