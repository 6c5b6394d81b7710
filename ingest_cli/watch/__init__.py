"""Drop folders: each complete file becomes a job, and is moved or deleted once the job has ended.

Nothing here looks into an archive or a catalogue: a worker pool beside it runs the jobs.
"""
