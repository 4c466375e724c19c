"""The wires: one provider, one file, without I/O."""
