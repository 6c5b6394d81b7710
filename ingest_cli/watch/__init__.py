"""Drop folders: whatever settles in one is ingested."""
