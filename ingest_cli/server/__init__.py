"""The HTTP server: receives bundles from Pacifica's uploaders into the spool, and queues their jobs.

Nothing here runs a job, or knows an archive, a catalogue or a policy: of the services it asks for ids only.
"""
