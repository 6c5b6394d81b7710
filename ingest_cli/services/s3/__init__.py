"""The archive in storage that speaks S3, reached through obstore, which only this wing imports."""
