"""From a submitted job to its end: the stages of a run, rolling back, and who does it when.

Nothing here knows SQL, HTTP or a terminal: the store, the services and who looks on are handed in.
"""
