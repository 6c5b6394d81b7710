"""What sends bundles to a server of another machine, and waits for what becomes of them there.

It speaks tus 1.0 and Pacifica's requests, and asks a policy service what pacifica-cli asks it. It knows nothing of this
machine's own jobs, services and archive, nor of the terminal.
"""
