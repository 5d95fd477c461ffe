"""The first catalogue."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

PRODUCT = sa.table("product", *(sa.column(name) for name in ("name", "origin", "blurb", "tone", "price")))
TEAS = [
    ("First Flush", "Darjeeling, India", "Light as a spring morning: muscatel, meadow, a little lemon.", "amber", 1450),
    ("Dragon Well", "Hangzhou, China", "Pressed by hand in a hot pan. Chestnut, then sweet grass.", "leaf", 1680),
    ("Iron Goddess", "Anxi, China", "An oolong that changes its mind with every pot. Orchid and cream.", "jade", 1890),
    ("Smoke Signal", "Wuyi, China", "Dried over pine embers. For rain, and for books with maps.", "ember", 1220),
    ("Red Bush", "Cederberg, South Africa", "No caffeine and no hurry: honey, vanilla, warm wood.", "rust", 840),
    ("Night Mint", "Meknes, Morocco", "Spearmint and nothing else. Pour from high up.", "mint", 760),
]


def upgrade() -> None:
    keys = ("name", "origin", "blurb", "tone", "price")
    op.bulk_insert(PRODUCT, [dict(zip(keys, tea, strict=True)) for tea in TEAS])


def downgrade() -> None:
    op.execute(PRODUCT.delete().where(PRODUCT.c.name.in_([tea[0] for tea in TEAS])))
