"""Bytes and arrays at rest: atomic files, URLs, npz files, threads, progress. Knows no runs and no torch."""
