"""The four services of a Pacifica site, over HTTP, as their released versions behave, which only this wing knows."""
