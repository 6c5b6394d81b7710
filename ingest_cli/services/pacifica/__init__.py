"""The four services of a Pacifica site, over HTTP. Only here is it known what those answer."""
