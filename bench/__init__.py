"""Measures aiowsgi and other servers: ``python -m bench``. See README.md in this folder."""
