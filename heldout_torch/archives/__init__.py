"""The published archives as read-only zoos, unpacked or packed with a seek index, and their export in one pass."""
