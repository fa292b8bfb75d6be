"""The world that bootlatch is shown in: networks, real DHCP servers, machines with real firmware."""
