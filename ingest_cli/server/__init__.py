"""The HTTP server: receives bundles from Pacifica's uploaders into the spool, and queues their jobs.

No request runs a job: a worker pool beside the server does. Of the services the server asks for ids only.
"""
