"""From a bundle to packages that people install: a wheel and a tar.gz."""
