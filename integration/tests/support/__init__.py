"""Shared code of the integration tests: servers, clients, networks and waiting."""
