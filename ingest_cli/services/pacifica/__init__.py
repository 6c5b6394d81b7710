"""The four services of a Pacifica site, over HTTP, as their released versions behave; nothing else knows how they do."""
