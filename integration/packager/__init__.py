"""Packages of the appliance: what is in them, and the formats they are written in. `integration/package` is the command."""
