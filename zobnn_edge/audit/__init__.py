"""Memory footprints: what takes how much of which memory, from a network, an ELF file or both."""
