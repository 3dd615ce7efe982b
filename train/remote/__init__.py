"""Runs and data in object stores: addresses, copies, uploads in the background, locks."""
