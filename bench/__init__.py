"""The figures of docs/benchmarks.md, each measured by a file here."""
