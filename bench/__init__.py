"""Measurements of aiowsgi beside its peers: ``python -m bench``; the README says what and how."""
