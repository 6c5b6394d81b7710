"""What a person, a program or a client sees of the commands and the server: words, exit codes, files, answers.

Processes and loopback are allowed, other machines are not.
"""
