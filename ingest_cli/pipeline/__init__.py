"""From a submitted job to its end: the stages of a run, rolling back, and the workers that run jobs.

Nothing here knows SQL, HTTP or a terminal: a run knows the store and the services by their ports, which a worker opens
by the settings, and tells an observer what happens.
"""
