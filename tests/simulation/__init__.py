"""Whole connections in simulated time: everything but the server's own code is simulated.

A `Simulation` has a virtual clock, an event loop, worker threads of which one runs at a time, and a
kernel with sockets (``world.py``). Random clients send random requests to a random application
(``traffic.py``). Every decision comes from one random number generator, so that a seed stands for
one run and a failing seed can be replayed (``test_simulation.py``).
"""
