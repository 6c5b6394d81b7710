"""What the servers that share a spool have in common beside uploads: the carts of users, and keys."""

import secrets

from .pooled import PooledRows

KEY_BYTES = 32


class ServerRows(PooledRows):
    """The carts, and the keys."""

    def key(self, name: str) -> bytes:
        """The secret key of this name: the first server that asks has made it up."""
        with self._writing() as connection:
            connection.execute(
                "INSERT INTO server_keys (name, key) VALUES (?, ?) ON CONFLICT DO NOTHING",
                (name, secrets.token_bytes(KEY_BYTES)),
            )
            ((key,),) = connection.execute("SELECT key FROM server_keys WHERE name = ?", (name,)).fetchall()
            return bytes(key)

    def keep_cart(self, name: str, user: str, record: bytes) -> None:
        """Keep the record of a cart, in place of one that the user had under this name."""
        with self._writing() as connection:
            connection.execute(
                'INSERT INTO carts (name, "user", record) VALUES (?, ?, ?)'
                ' ON CONFLICT (name, "user") DO UPDATE SET record = excluded.record, kept = now()',
                (name, user, record),
            )

    def cart(self, name: str, user: str, lifetime: float) -> bytes | None:
        """The record of a cart that is kept for no longer than so many seconds."""
        with self._reading() as connection:
            found = connection.execute(
                'SELECT record FROM carts WHERE name = ? AND "user" = ? AND kept >= now() - make_interval(secs => ?)',
                (name, user, lifetime),
            ).fetchone()
            return None if found is None else bytes(found[0])

    def count_carts(self, name: str, user: str) -> tuple[tuple[int, int], tuple[int, int]]:
        """How many carts there are beside the user's of this name, and of how many bytes: the user's, and all."""
        with self._reading() as connection:
            found = connection.execute(
                'SELECT count(*) FILTER (WHERE "user" = ?), coalesce(sum(length(record)) FILTER (WHERE "user" = ?), 0),'
                ' count(*), coalesce(sum(length(record)), 0) FROM carts WHERE (name, "user") <> (?, ?)',
                (user, user, name, user),
            ).fetchone()
            return (int(found[0]), int(found[1])), (int(found[2]), int(found[3]))

    def remove_cart(self, name: str, user: str) -> None:
        """Keep a cart no more."""
        with self._writing() as connection:
            connection.execute('DELETE FROM carts WHERE name = ? AND "user" = ?', (name, user))

    def remove_old_carts(self, lifetime: float) -> None:
        """Remove the carts that have been kept for longer than so many seconds."""
        with self._writing() as connection:
            connection.execute("DELETE FROM carts WHERE kept < now() - make_interval(secs => ?)", (lifetime,))
