"""The lab: networks, real DHCP servers, and virtual machines with real firmware around bootlatch."""
