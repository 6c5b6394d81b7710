"""The released Pacifica services and clients, where INGEST_TEST_PACIFICA names a folder that has them.

All of it is of the second tier.
"""
