"""The published archives as zoos that are only read: unpacked, packed with a seek index, and in one pass."""
