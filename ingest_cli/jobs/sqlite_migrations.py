"""The job store's tables in SQLite, and how each older store becomes one of today."""

_FIRST = """
    CREATE TABLE jobs (
        job_id INTEGER PRIMARY KEY,
        kind TEXT NOT NULL,
        source TEXT NOT NULL,
        stamp TEXT NOT NULL,
        user TEXT NOT NULL,
        state TEXT NOT NULL DEFAULT 'OK',
        task TEXT NOT NULL DEFAULT 'UPLOADING',
        task_percent REAL NOT NULL DEFAULT 0,
        exception TEXT NOT NULL DEFAULT '',
        created TEXT NOT NULL,
        updated TEXT NOT NULL,
        digest TEXT,
        first_file_id INTEGER,
        stored INTEGER NOT NULL DEFAULT 0,
        recorded INTEGER NOT NULL DEFAULT 0,
        resumable INTEGER NOT NULL DEFAULT 1,
        duplicate_of INTEGER,
        worker TEXT,
        beat REAL NOT NULL DEFAULT 0);
    CREATE INDEX jobs_source ON jobs(source);
    CREATE INDEX jobs_digest ON jobs(digest)
"""

_ATTEMPTS = "ALTER TABLE jobs ADD COLUMN attempts INTEGER NOT NULL DEFAULT 0"

_QUEUE = """
    ALTER TABLE jobs ADD COLUMN not_before REAL NOT NULL DEFAULT 0;
    ALTER TABLE jobs ADD COLUMN spooled INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE jobs ADD COLUMN files INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE jobs ADD COLUMN bytes INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE jobs ADD COLUMN entered REAL NOT NULL DEFAULT 0;
    CREATE TABLE stages (
        job_id INTEGER NOT NULL,
        task TEXT NOT NULL,
        seconds REAL NOT NULL,
        PRIMARY KEY (job_id, task)) WITHOUT ROWID;
    CREATE INDEX jobs_queue ON jobs(attempts, created, job_id) WHERE state = 'OK' AND resumable AND NOT recorded
"""

# One state in place of six columns. What an administrator had said of a job at its end stays what Pacifica's clients
# see; what stood half-stored and failed is held, for 'retry' or 'discard', and what a duplicate had stored is rolled
# back. The device's number leaves the fingerprint.
_STATES = """
    ALTER TABLE jobs RENAME TO old;
    DROP INDEX jobs_source;
    DROP INDEX jobs_digest;
    DROP INDEX jobs_queue;
    CREATE TABLE jobs (
        job_id INTEGER PRIMARY KEY,
        kind TEXT NOT NULL,
        source TEXT NOT NULL,
        fingerprint TEXT NOT NULL,
        user TEXT NOT NULL,
        spooled INTEGER NOT NULL DEFAULT 0,
        state TEXT NOT NULL,
        task TEXT NOT NULL DEFAULT 'UPLOADING',
        task_percent REAL NOT NULL DEFAULT 0,
        exception TEXT NOT NULL DEFAULT '',
        created TEXT NOT NULL,
        updated TEXT NOT NULL,
        began TEXT NOT NULL DEFAULT '',
        digest TEXT,
        files INTEGER NOT NULL DEFAULT 0,
        bytes INTEGER NOT NULL DEFAULT 0,
        attempts INTEGER NOT NULL DEFAULT 0,
        retry_at REAL NOT NULL DEFAULT 0,
        fence INTEGER NOT NULL DEFAULT 0,
        holder TEXT,
        heartbeat INTEGER NOT NULL DEFAULT 0,
        undo_to TEXT,
        successor INTEGER,
        said TEXT);
    CREATE TABLE reservations (
        job_id INTEGER PRIMARY KEY REFERENCES jobs(job_id),
        first_file_id INTEGER NOT NULL,
        count INTEGER NOT NULL,
        stored INTEGER NOT NULL DEFAULT 0,
        sources BLOB);
    INSERT INTO jobs SELECT
        job_id, kind, source, substr(stamp, instr(stamp, ':') + 1), user, spooled,
        CASE
            WHEN recorded THEN 'complete'
            WHEN duplicate_of IS NOT NULL AND first_file_id IS NOT NULL THEN 'undoing'
            WHEN duplicate_of IS NOT NULL THEN 'duplicate'
            WHEN state = 'FAILED' AND exception LIKE 'continued as job %' THEN 'superseded'
            WHEN state = 'FAILED' AND exception LIKE 'discarded: %' AND first_file_id IS NULL THEN 'discarded'
            WHEN state = 'FAILED' AND first_file_id IS NOT NULL THEN 'held'
            WHEN state = 'FAILED' OR NOT resumable THEN 'failed'
            WHEN worker IS NULL THEN 'queued'
            ELSE 'running'
        END,
        CASE WHEN recorded OR duplicate_of IS NOT NULL THEN 'ingest metadata' ELSE task END,
        CASE WHEN recorded OR duplicate_of IS NOT NULL THEN 100 ELSE task_percent END,
        CASE WHEN recorded OR duplicate_of IS NOT NULL THEN '' ELSE exception END,
        created, updated, updated, digest, max(files, stored), bytes, attempts, not_before, attempts,
        CASE WHEN state = 'OK' AND worker IS NOT NULL THEN json_object(
            'host', rtrim(rtrim(worker, '0123456789'), ':'),
            'pid', CAST(replace(worker, rtrim(worker, '0123456789'), '') AS INTEGER),
            'started', '', 'boot', '', 'namespace', '')
        END,
        0,
        CASE WHEN NOT recorded AND duplicate_of IS NOT NULL AND first_file_id IS NOT NULL THEN 'duplicate' END,
        CASE
            WHEN duplicate_of IS NOT NULL THEN duplicate_of
            WHEN exception LIKE 'continued as job %' THEN CAST(substr(exception, 18) AS INTEGER)
        END,
        CASE WHEN (recorded OR duplicate_of IS NOT NULL)
            AND NOT (state = 'OK' AND task = 'ingest metadata' AND task_percent = 100)
            OR state = 'OK' AND NOT resumable AND NOT recorded AND duplicate_of IS NULL
        THEN json_object(
            'state', state, 'task', task, 'task_percent', task_percent, 'exception', exception)
        END
        FROM old;
    INSERT INTO reservations SELECT job_id, first_file_id, max(files, stored), stored, NULL FROM old
        WHERE first_file_id IS NOT NULL AND NOT recorded;
    DROP TABLE old;
    CREATE INDEX jobs_source ON jobs(source);
    CREATE INDEX jobs_digest ON jobs(digest);
    CREATE INDEX jobs_queue ON jobs(attempts, job_id) WHERE state IN ('queued', 'running', 'undoing');
    CREATE INDEX reservations_ids ON reservations(first_file_id)
"""

# Runs that found the job must wait are no attempts. The archive that has the site's files is known by its mark; before,
# no archive had one: of such a one no identity is known. The mounts of a job's files tell one whose disk is away from
# one that is gone.
_PLACES = """
    ALTER TABLE jobs ADD COLUMN waits INTEGER NOT NULL DEFAULT 0;
    CREATE TABLE archive (identity TEXT NOT NULL);
    INSERT INTO archive SELECT '' WHERE EXISTS (SELECT 1 FROM jobs WHERE state = 'complete' AND files > 0)
        OR EXISTS (SELECT 1 FROM reservations);
    CREATE TABLE mounts (
        job_id INTEGER NOT NULL,
        path BLOB NOT NULL,
        PRIMARY KEY (job_id, path)) WITHOUT ROWID
"""

# What a file of the spool was made of: of those that are there already nobody knows.
_ORIGIN = "ALTER TABLE jobs ADD COLUMN origin TEXT NOT NULL DEFAULT ''"

# Events wait here until they are sent. What became of jobs before was not announced.
_OUTBOX = """
    CREATE TABLE outbox (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        job_id INTEGER NOT NULL,
        run INTEGER NOT NULL,
        kind TEXT NOT NULL,
        receiver TEXT NOT NULL,
        data TEXT NOT NULL,
        created TEXT NOT NULL,
        updated TEXT NOT NULL,
        status TEXT NOT NULL DEFAULT 'waiting',
        attempts INTEGER NOT NULL DEFAULT 0,
        retry_at REAL NOT NULL DEFAULT 0,
        since REAL NOT NULL,
        is_outage INTEGER NOT NULL DEFAULT 0,
        is_hastened INTEGER NOT NULL DEFAULT 0,
        reason TEXT NOT NULL DEFAULT '',
        fence INTEGER NOT NULL DEFAULT 0,
        holder TEXT);
    CREATE INDEX outbox_waiting ON outbox(number) WHERE status = 'waiting';
    CREATE INDEX outbox_job ON outbox(job_id, number)
"""

# Jobs of the service that was here before, as it told its clients of them: they are nobody's to run.
_IMPORTED = """
    CREATE TABLE imported (
        job_id INTEGER PRIMARY KEY,
        state TEXT NOT NULL,
        task TEXT NOT NULL,
        task_percent TEXT NOT NULL,
        complete INTEGER NOT NULL,
        updated TEXT NOT NULL,
        created TEXT NOT NULL,
        exception TEXT NOT NULL)
"""

# `Job.status` in SQL: jobs are asked for by it, alone or with the time of their last change.
_STATUS = """
    ALTER TABLE jobs ADD COLUMN status TEXT GENERATED ALWAYS AS (
        CASE
            WHEN state <> 'queued' THEN state
            WHEN holder IS NULL AND retry_at > 0 THEN 'deferred'
            WHEN attempts > 0 AND said IS NULL AND exception = '' THEN 'interrupted'
            ELSE 'waiting'
        END) VIRTUAL;
    CREATE INDEX jobs_status ON jobs(status);
    CREATE INDEX jobs_updated ON jobs(status, updated)
"""

# What was asked for with a folder, and cannot be read from it.
_REQUESTS = """
    CREATE TABLE requests (
        job_id INTEGER PRIMARY KEY,
        request TEXT NOT NULL)
"""

_FAILED = "IN ('failed', 'held')"
_ENDED = f"(state IN ('complete', 'duplicate') OR state {_FAILED})"
_DAY = "substr({row}updated, 1, 10)"
_FIRST_LINE = "substr({row}exception, 1, instr({row}exception || char(10), char(10)) - 1)"
_SUMS = "jobs = jobs + 1, files = files + excluded.files, bytes = bytes + excluded.bytes"


def _counted(row: str) -> str:
    """What counts the job ``row`` of a trigger."""
    return f"""
        INSERT INTO counts VALUES ({row}.user, {row}.status, 1, {row}.files, {row}.bytes)
            ON CONFLICT DO UPDATE SET {_SUMS};
        INSERT INTO days SELECT {_DAY.format(row=f"{row}.")}, {row}.state, 1, {row}.files, {row}.bytes
            WHERE {_ENDED.replace("state", f"{row}.state")} ON CONFLICT DO UPDATE SET {_SUMS};"""


def _no_longer_counted(row: str) -> str:
    """What counts the job ``row`` of a trigger no more."""
    keys = {
        "counts": f"user = {row}.user AND status = {row}.status",
        "days": f"day = {_DAY.format(row=f'{row}.')} AND state = {row}.state",
    }
    less = f"jobs = jobs - 1, files = files - {row}.files, bytes = bytes - {row}.bytes"
    return "".join(
        f"UPDATE {table} SET {less} WHERE {key}; DELETE FROM {table} WHERE {key} AND jobs = 0;"
        for table, key in keys.items()
    )


def _reasons_counted(row: str) -> str:
    return "".join(
        f"INSERT INTO reasons VALUES ('{part}', {row}.stage, {row}.reason, {row}.{part}, 1)"
        " ON CONFLICT DO UPDATE SET jobs = jobs + 1;"
        for part in ("words", "day", "user")
    )


def _reasons_no_longer_counted(row: str) -> str:
    key = "part = '{part}' AND stage = {row}.stage AND reason = {row}.reason AND value = {row}.{part}"
    return "".join(
        f"UPDATE reasons SET jobs = jobs - 1 WHERE {where}; DELETE FROM reasons WHERE {where} AND jobs = 0;"
        for where in (key.format(part=part, row=row) for part in ("words", "day", "user"))
    )


def _failure(row: str) -> str:
    """What notes the job ``row`` of a trigger, if it failed."""
    values = f"{row}.job_id, {row}.task, NULL, {_FIRST_LINE.format(row=f'{row}.')}, {row}.user"
    day = _DAY.format(row=f"{row}.")
    return f"INSERT INTO failures SELECT {values}, {day} WHERE {row}.state {_FAILED};"


# Counts of jobs, kept as jobs change, so that asking for them takes no longer as jobs become more. Triggers keep them,
# for an older program that is still at work keeps them then as well. For the same reason they call nothing that is not
# SQLite's own: the ``reason`` of a failure, without what belongs to one job alone, is found out when reasons are asked
# for. What the stages took is not taken away again with a job.
_COUNTS = f"""
    CREATE TABLE counts (
        user TEXT NOT NULL,
        status TEXT NOT NULL,
        jobs INTEGER NOT NULL,
        files INTEGER NOT NULL,
        bytes INTEGER NOT NULL,
        PRIMARY KEY (user, status)) WITHOUT ROWID;
    CREATE TABLE days (
        day TEXT NOT NULL,
        state TEXT NOT NULL,
        jobs INTEGER NOT NULL,
        files INTEGER NOT NULL,
        bytes INTEGER NOT NULL,
        PRIMARY KEY (day, state)) WITHOUT ROWID;
    CREATE TABLE failures (
        job_id INTEGER PRIMARY KEY,
        stage TEXT NOT NULL,
        reason TEXT,
        words TEXT NOT NULL,
        user TEXT NOT NULL,
        day TEXT NOT NULL);
    CREATE TABLE reasons (
        part TEXT NOT NULL,
        stage TEXT NOT NULL,
        reason TEXT NOT NULL,
        value TEXT NOT NULL,
        jobs INTEGER NOT NULL,
        PRIMARY KEY (part, stage, reason, value)) WITHOUT ROWID;
    CREATE TABLE stage_seconds (
        task TEXT PRIMARY KEY,
        seconds REAL NOT NULL) WITHOUT ROWID;
    INSERT INTO counts SELECT user, status, 1, files, bytes FROM jobs WHERE true ON CONFLICT DO UPDATE SET {_SUMS};
    INSERT INTO days SELECT {_DAY.format(row="")}, state, 1, files, bytes FROM jobs WHERE {_ENDED}
        ON CONFLICT DO UPDATE SET {_SUMS};
    INSERT INTO failures SELECT job_id, task, NULL, {_FIRST_LINE.format(row="")}, user, {_DAY.format(row="")}
        FROM jobs WHERE status {_FAILED};
    INSERT INTO stage_seconds SELECT task, seconds FROM stages WHERE true
        ON CONFLICT DO UPDATE SET seconds = seconds + excluded.seconds;
    CREATE INDEX failures_reason ON failures(reason, stage);
    CREATE TRIGGER job_counted AFTER INSERT ON jobs BEGIN {_counted("new")} {_failure("new")} END;
    CREATE TRIGGER job_forgotten AFTER DELETE ON jobs BEGIN
        {_no_longer_counted("old")} DELETE FROM failures WHERE job_id = old.job_id; END;
    CREATE TRIGGER job_changed AFTER UPDATE ON jobs
        WHEN old.status <> new.status OR old.files <> new.files OR old.bytes <> new.bytes
            OR substr(old.updated, 1, 10) <> substr(new.updated, 1, 10)
        BEGIN {_no_longer_counted("old")} {_counted("new")} END;
    CREATE TRIGGER failure_changed AFTER UPDATE OF state, task, exception, updated ON jobs
        WHEN (old.state {_FAILED} OR new.state {_FAILED})
            AND ((old.state {_FAILED}) <> (new.state {_FAILED}) OR old.task <> new.task
                OR old.exception <> new.exception OR substr(old.updated, 1, 10) <> substr(new.updated, 1, 10))
        BEGIN DELETE FROM failures WHERE job_id = old.job_id; {_failure("new")} END;
    CREATE TRIGGER reason_found AFTER UPDATE OF reason ON failures WHEN old.reason IS NULL
        BEGIN {_reasons_counted("new")} END;
    CREATE TRIGGER reason_forgotten AFTER DELETE ON failures WHEN old.reason IS NOT NULL
        BEGIN {_reasons_no_longer_counted("old")} END;
    CREATE TRIGGER stage_left AFTER INSERT ON stages BEGIN
        INSERT INTO stage_seconds VALUES (new.task, new.seconds)
            ON CONFLICT DO UPDATE SET seconds = seconds + excluded.seconds; END;
    CREATE TRIGGER stage_left_again AFTER UPDATE ON stages BEGIN
        UPDATE stage_seconds SET seconds = seconds + new.seconds - old.seconds WHERE task = new.task; END;
    CREATE INDEX outbox_status ON outbox(status, receiver, created);
    CREATE INDEX jobs_successor ON jobs(successor) WHERE successor IS NOT NULL
"""

# Who looks for a job to run finds the first that is due, however many wait or are deferred.
_DUE = """
    CREATE INDEX jobs_due ON jobs(attempts, retry_at) WHERE state IN ('queued', 'running', 'undoing');
    DROP INDEX jobs_queue
"""

# The jobs of a user are asked for like those of all.
_USERS = "CREATE INDEX jobs_user ON jobs(user, status)"

# What was told of a job, besides what the job itself says.
_HISTORY = """
    CREATE TABLE history (
        job_id INTEGER NOT NULL,
        number INTEGER NOT NULL,
        moment TEXT NOT NULL,
        line TEXT NOT NULL,
        PRIMARY KEY (job_id, number)) WITHOUT ROWID;
    CREATE TRIGGER history_forgotten AFTER DELETE ON jobs BEGIN
        DELETE FROM history WHERE job_id = old.job_id; END
"""

# Who looks for an event to send finds the first that is due, however many wait; so does who has sent one.
_EVENTS = """
    CREATE INDEX outbox_due ON outbox(retry_at) WHERE status = 'waiting';
    CREATE INDEX outbox_outage ON outbox(receiver) WHERE status = 'waiting' AND is_outage
"""

MIGRATIONS = (
    *(_FIRST, _ATTEMPTS, _QUEUE, _STATES, _PLACES, _ORIGIN, _OUTBOX, _IMPORTED, _STATUS, _REQUESTS),
    *(_COUNTS, _DUE, _USERS, _HISTORY, _EVENTS),
)
