"""Procrastinate's tables beside the jobs in PostgreSQL: a task, ``ingest.run(job_id)``, for each job that waits.

The row of a job alone says what is to be done. A trigger has its task follow it, in the same transaction, whoever
changes the row and by whichever version of this program: a job that waits has one task that is to do, in the job's
queue, of its priority, and due when the job is; one that a worker took from the queue has a task that is being done;
a job that is settled has none.

Who changes a job has its row locked when the trigger looks for its task. A worker that has taken a task therefore never
waits for the row.

What is planned while a table is small must not be what is done when it is large: tasks are found by their indexes,
whatever the server knows of how many there are; and a worker's next task, by what it knows of the worker's own queues.
"""

from importlib.util import find_spec
from pathlib import Path

from ..errors import SettingsError

TASK = "ingest.run"

_FOLLOWS = f"""
    ALTER TABLE jobs ADD COLUMN queue text NOT NULL DEFAULT '';
    ALTER TABLE jobs ADD COLUMN priority integer NOT NULL DEFAULT 50;
    ALTER TABLE jobs ADD COLUMN project text;
    ALTER TABLE jobs ADD COLUMN is_crowded boolean NOT NULL DEFAULT false;
    CREATE INDEX jobs_due_here ON jobs(queue, attempts, retry_at, job_id)
        WHERE state IN ('queued', 'running', 'undoing');
    CREATE INDEX jobs_project ON jobs(project) WHERE state IN ('queued', 'running') AND project IS NOT NULL;
    CREATE INDEX ingest_tasks_doing ON procrastinate_jobs(queueing_lock) WHERE status = 'doing';
    ALTER FUNCTION procrastinate_fetch_job_v2 SET plan_cache_mode = force_custom_plan;
    CREATE FUNCTION ingest_waiting_task_ends(job bigint) RETURNS void LANGUAGE sql SET enable_seqscan = off AS $$
        SELECT procrastinate_finish_job_v1(id, 'succeeded', true) FROM (
            SELECT id FROM procrastinate_jobs WHERE queueing_lock = 'job ' || job AND status = 'todo' FOR UPDATE
        ) AS found
    $$;
    CREATE FUNCTION ingest_running_task_ends(job bigint) RETURNS void LANGUAGE sql SET enable_seqscan = off AS $$
        SELECT procrastinate_finish_job_v1(id, 'succeeded', true) FROM (
            SELECT id FROM procrastinate_jobs WHERE queueing_lock = 'job ' || job AND status = 'doing' FOR UPDATE
        ) AS found
    $$;
    CREATE FUNCTION ingest_task_put(job jobs) RETURNS void LANGUAGE plpgsql AS $$
    BEGIN
        PERFORM ingest_waiting_task_ends(job.job_id);
        PERFORM ingest_running_task_ends(job.job_id);
        PERFORM procrastinate_defer_jobs_v1(ARRAY[ROW(
            job.queue,
            '{TASK}',
            job.priority,
            NULL,
            'job ' || job.job_id,
            jsonb_build_object('job_id', job.job_id),
            CASE WHEN job.retry_at > 0 THEN to_timestamp(job.retry_at) END
        )::procrastinate_job_to_defer_v1]);
    END
    $$;
    CREATE FUNCTION ingest_task_follows() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF NEW.holder IS NOT NULL THEN
            PERFORM ingest_waiting_task_ends(NEW.job_id);
        ELSIF NEW.state IN ('queued', 'undoing') THEN
            PERFORM ingest_task_put(NEW);
        ELSE
            PERFORM ingest_waiting_task_ends(NEW.job_id);
            PERFORM ingest_running_task_ends(NEW.job_id);
        END IF;
        IF TG_OP = 'UPDATE' AND NEW.project IS NOT NULL AND NEW.holder IS NULL AND NOT NEW.is_crowded
            AND OLD.holder IS NOT NULL THEN
            UPDATE jobs SET retry_at = 0, is_crowded = false WHERE job_id = (
                SELECT job_id FROM jobs WHERE project = NEW.project AND state = 'queued' AND is_crowded
                    AND job_id <> NEW.job_id ORDER BY priority DESC, job_id LIMIT 1 FOR UPDATE SKIP LOCKED);
        END IF;
        RETURN NULL;
    END
    $$;
    CREATE FUNCTION ingest_task_forgotten() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        PERFORM ingest_waiting_task_ends(OLD.job_id);
        PERFORM ingest_running_task_ends(OLD.job_id);
        RETURN NULL;
    END
    $$;
    CREATE FUNCTION ingest_task_lives() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        UPDATE procrastinate_workers SET last_heartbeat = now()
            WHERE last_heartbeat < now() - interval '5 seconds' AND id = (
                SELECT worker_id FROM procrastinate_jobs
                    WHERE queueing_lock = 'job ' || NEW.job_id AND status = 'doing' LIMIT 1);
        RETURN NULL;
    END
    $$;
    CREATE TRIGGER task_put AFTER INSERT ON jobs FOR EACH ROW
        WHEN (NEW.holder IS NULL AND NEW.state IN ('queued', 'undoing')) EXECUTE FUNCTION ingest_task_follows();
    CREATE TRIGGER task_follows AFTER UPDATE OF state, holder, retry_at, queue, priority ON jobs FOR EACH ROW
        WHEN ((OLD.state, OLD.holder IS NULL, OLD.retry_at, OLD.queue, OLD.priority)
            IS DISTINCT FROM (NEW.state, NEW.holder IS NULL, NEW.retry_at, NEW.queue, NEW.priority))
        EXECUTE FUNCTION ingest_task_follows();
    CREATE TRIGGER task_forgotten AFTER DELETE ON jobs FOR EACH ROW
        WHEN (OLD.state IN ('queued', 'running', 'undoing')) EXECUTE FUNCTION ingest_task_forgotten();
    CREATE TRIGGER task_lives AFTER UPDATE OF heartbeat ON jobs FOR EACH ROW
        WHEN (NEW.heartbeat > OLD.heartbeat) EXECUTE FUNCTION ingest_task_lives();
    SELECT ingest_task_put(jobs) FROM jobs WHERE holder IS NULL AND state IN ('queued', 'undoing')
"""

# Of a project as many are at work as have a holder. Whoever finds too many waits until one of them leaves.
ADMIT = """
    UPDATE jobs SET project = ?, is_crowded = (
        SELECT count(*) >= ? FROM jobs AS others WHERE others.project = ? AND others.state = 'running'
            AND others.holder IS NOT NULL AND NOT others.is_crowded AND others.job_id <> jobs.job_id)
        WHERE job_id = ? AND fence = ? AND state = 'running' RETURNING is_crowded
"""
POSTPONE = """
    UPDATE jobs SET retry_at = ?, is_crowded = true WHERE job_id = ? AND state = 'queued' AND ? <= (
        SELECT count(*) FROM jobs AS others WHERE others.project = jobs.project AND others.state = 'running'
            AND others.holder IS NOT NULL AND NOT others.is_crowded)
"""
PLACES = "SELECT job_id, queue, priority, project, is_crowded FROM jobs WHERE job_id IN ({asked})"
QUEUED = """
    SELECT queue, count(*) FROM jobs WHERE state IN ('queued', 'undoing') AND holder IS NULL GROUP BY 1 ORDER BY 1
"""
FETCH = "SELECT id, args FROM procrastinate_fetch_job_v2(ARRAY[{queues}]::varchar[], ?)"
FINISH = "SELECT procrastinate_finish_job_v1(?, 'succeeded', true)"
REGISTER = "SELECT worker_id FROM procrastinate_register_worker_v1()"
UNREGISTER = "SELECT procrastinate_unregister_worker_v1(?)"
BEAT = "SELECT procrastinate_update_heartbeat_v1(?)"
# Whoever mends is alone: the others have nothing to do.
EXCLUSIVE = "SELECT pg_try_advisory_xact_lock(hashtext('tasks of ingest'), 0) AS is_alone"
GIVE_TASKS = """
    SELECT ingest_task_put(jobs) FROM jobs WHERE holder IS NULL AND state IN ('queued', 'undoing') AND NOT EXISTS (
        SELECT FROM procrastinate_jobs WHERE queueing_lock = 'job ' || jobs.job_id AND status = 'todo') LIMIT 1000
"""
PRUNE_TASKS = "DELETE FROM procrastinate_jobs WHERE status NOT IN ('todo', 'doing')"
# The server looks at its tables by itself, but a minute later.
LOOK_AGAIN = "ANALYZE procrastinate_jobs"
PRUNE_WORKERS = """
    DELETE FROM procrastinate_workers WHERE last_heartbeat < now() - interval '1 day' AND NOT EXISTS (
        SELECT FROM procrastinate_jobs WHERE worker_id = procrastinate_workers.id AND status = 'doing')
"""


def schema() -> str:
    """The statements that add Procrastinate's tables, and have the tasks follow the jobs."""
    found = find_spec("procrastinate")
    if found is None or found.origin is None:
        raise SettingsError("PostgreSQL needs: pip install 'pacifica-ingest-cli[cluster]'")
    # Without importing it, which takes as long as a job.
    tables = Path(found.origin).parent / "sql" / "schema.sql"
    return f"{tables.read_text('utf-8')};{_FOLLOWS}"
