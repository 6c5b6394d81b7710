"""One wing at a time, by Python alone: no socket may be used and no process started.

Files and SQLite databases in the test's own folder are allowed, since durable files are what the program makes.
"""
