"""The HTTP shim: takes bundles from Pacifica's uploaders and puts them into the queue."""
