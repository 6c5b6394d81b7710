"""Carts that the servers of several hosts share: any of them knows the cart that another has made."""

from uuid import UUID

from ..spool.shared import SharedSpool
from .carts import LIFETIME, Cart, cart_of, record_of, require_few


class SharedCarts:
    """The carts in the database of the shared spool."""

    def __init__(self, spool: SharedSpool) -> None:
        self._rows = spool.rows.servers

    def save(self, cart: Cart) -> None:
        """Have the database keep its record."""
        record = record_of(cart)
        self.sweep()
        require_few(*self._rows.count_carts(cart.name, cart.user), len(record))
        self._rows.keep_cart(cart.name, cart.user, record)

    def find(self, name: UUID, user: str) -> Cart | None:
        """The cart of a record that is not too old."""
        record = self._rows.cart(str(name), user, LIFETIME.total_seconds())
        return None if record is None else cart_of(str(name), user, record)

    def remove(self, cart: Cart) -> None:
        """Remove its record."""
        self._rows.remove_cart(cart.name, cart.user)

    def sweep(self) -> None:
        """Remove the records that are too old."""
        self._rows.remove_old_carts(LIFETIME.total_seconds())
