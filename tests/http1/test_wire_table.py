"""Every row of the wire table, against the reader with each parser."""

import pytest
from reading import PARSERS, in_pieces, read
from wire import ROWS, SECOND, Row, Seen

SECOND_SEEN = Seen("GET", "/second", "x", b"")

# Rows of tens of kilobytes test limits; byte by byte they would take seconds.
BYTE_BY_BYTE_UP_TO = 2_000


def expected(row: Row) -> tuple[tuple[Seen, ...], int | None]:
    """Return what a row must give if a second request follows it."""
    return (row.seen if row.closes else (*row.seen, SECOND_SEEN)), row.status


def test_the_table_is_large_and_its_ids_are_unique() -> None:
    """The table has at least four hundred rows with unique ids."""
    assert len({row.id for row in ROWS}) == len(ROWS) >= 400


@pytest.mark.parametrize("parser", PARSERS)
@pytest.mark.parametrize("row", ROWS, ids=[row.id for row in ROWS])
def test_row(row: Row, parser: str) -> None:
    """A row is read or refused as it says, whole or byte by byte, and shows no hidden request."""
    sent = row.sent + SECOND
    step = 1 if len(sent) <= BYTE_BY_BYTE_UP_TO else 499
    for pieces in ([sent], in_pieces(sent, step), [row.sent, SECOND]):
        reading = read(parser, pieces)
        assert (reading.seen, reading.status) == expected(row)
