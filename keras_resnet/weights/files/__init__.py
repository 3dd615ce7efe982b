"""Readers and downloads for files of weights from untrusted sources; see README.md beside this."""
