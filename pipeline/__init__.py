"""The engine: items, leases, time.  It knows nothing of documents."""
