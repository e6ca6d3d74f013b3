"""Stored bytes and arrays: atomic files, URLs, npz files, threads, progress; independent of runs and torch."""
