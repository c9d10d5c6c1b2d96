"""Tables and statements of the SQLite store (`sqlite_store.py`)."""

from __future__ import annotations

from typing import NamedTuple

RECORD_OVERHEAD_BYTES = 130
"""Besides twice the key and the body: 119 bytes of the file measured over 60,000 records with random keys."""
CLAIM_OVERHEAD_BYTES = 60
"""Besides twice scope and name: 50 bytes of the file measured over 60,000 increments with random names."""

SCHEMA_VERSION = 2
"""Also to be raised with the two numbers above: a file keeps the triggers that it was made with."""
OLD_SCHEMA = """
DROP TABLE IF EXISTS claims;
DROP TABLE IF EXISTS records;
DROP TABLE IF EXISTS sizes;
"""
"""Run on a file of another version: its keys and increments, which had no times, are dropped; the rest stays."""

SCHEMA = """
CREATE TABLE IF NOT EXISTS items (
    cas INTEGER PRIMARY KEY AUTOINCREMENT,  -- a replaced item is a new row, so its number is new too
    key BLOB NOT NULL UNIQUE,
    value BLOB NOT NULL,
    flags INTEGER NOT NULL,
    expires REAL NOT NULL,
    generation INTEGER NOT NULL             -- an item of an earlier one has been flushed
);
CREATE INDEX IF NOT EXISTS items_by_expiry ON items (expires);
CREATE INDEX IF NOT EXISTS items_by_generation ON items (generation);
CREATE TABLE IF NOT EXISTS flush (one INTEGER PRIMARY KEY CHECK (one = 1), generation INTEGER, due REAL);
INSERT INTO flush VALUES (1, 0, 9e999) ON CONFLICT DO NOTHING;
CREATE TABLE IF NOT EXISTS counters (name BLOB PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS claims (
    number INTEGER PRIMARY KEY,
    scope BLOB NOT NULL,
    name BLOB NOT NULL,
    stored REAL NOT NULL,
    UNIQUE (scope, name)
);
CREATE INDEX IF NOT EXISTS claims_by_age ON claims (stored);
CREATE TABLE IF NOT EXISTS records (
    number INTEGER PRIMARY KEY,
    key BLOB NOT NULL UNIQUE,
    fingerprint BLOB NOT NULL,
    token BLOB NOT NULL,
    expires REAL NOT NULL,
    code TEXT NOT NULL,
    body BLOB NOT NULL,
    stored REAL NOT NULL
);
CREATE INDEX IF NOT EXISTS records_by_expiry ON records (expires);
CREATE INDEX IF NOT EXISTS finished_by_age ON records (stored) WHERE code <> '';
-- Running totals, for counting takes as long as there are rows.
CREATE TABLE IF NOT EXISTS sizes (
    one INTEGER PRIMARY KEY CHECK (one = 1), counters INTEGER, claims INTEGER, records INTEGER
);
INSERT INTO sizes SELECT 1, count(*), 0, 0 FROM counters WHERE true ON CONFLICT DO NOTHING;
CREATE TRIGGER IF NOT EXISTS counter_added AFTER INSERT ON counters BEGIN
    UPDATE sizes SET counters = counters + 1;
END;
CREATE TRIGGER IF NOT EXISTS claim_added AFTER INSERT ON claims BEGIN
    UPDATE sizes SET claims = claims + {claim} + 2 * (length(new.scope) + length(new.name));
END;
CREATE TRIGGER IF NOT EXISTS claim_dropped AFTER DELETE ON claims BEGIN
    UPDATE sizes SET claims = claims - {claim} - 2 * (length(old.scope) + length(old.name));
END;
CREATE TRIGGER IF NOT EXISTS record_added AFTER INSERT ON records BEGIN
    UPDATE sizes SET records = records + {record} + 2 * length(new.key) + length(new.body);
END;
CREATE TRIGGER IF NOT EXISTS record_changed AFTER UPDATE OF body ON records BEGIN
    UPDATE sizes SET records = records + length(new.body) - length(old.body);
END;
CREATE TRIGGER IF NOT EXISTS record_dropped AFTER DELETE ON records BEGIN
    UPDATE sizes SET records = records - {record} - 2 * length(old.key) - length(old.body);
END;
""".replace("{claim}", str(CLAIM_OVERHEAD_BYTES)).replace("{record}", str(RECORD_OVERHEAD_BYTES))

ITEM = """
SELECT value, flags, expires, cas FROM items JOIN flush USING (generation)
WHERE key = ? AND expires > ? AND due > ?
"""
PUT_ITEM = """
INSERT OR REPLACE INTO items (key, value, flags, expires, generation)
SELECT ?, ?, ?, ?, generation FROM flush
"""
FLUSH_IF_DUE = "UPDATE flush SET generation = generation + 1, due = 9e999 WHERE due <= ?"
SWEEPS = (
    "DELETE FROM items WHERE cas IN (SELECT cas FROM items WHERE expires <= :now LIMIT :rows)",
    "DELETE FROM items WHERE cas IN "
    "(SELECT cas FROM items WHERE generation < (SELECT generation FROM flush) LIMIT :rows)",
    "DELETE FROM records WHERE number IN (SELECT number FROM records WHERE expires <= :now LIMIT :rows)",
)
PUT_RECORD = """
INSERT INTO records (key, fingerprint, token, expires, code, body, stored) VALUES (?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (key) DO UPDATE SET fingerprint = excluded.fingerprint, token = excluded.token,
expires = excluded.expires, code = excluded.code, body = excluded.body, stored = excluded.stored
"""
DROP_EXPIRED_RECORDS = "DELETE FROM records WHERE number IN (SELECT number FROM records WHERE expires <= ? LIMIT ?)"
DROP_EXPIRED_CLAIMS = "DELETE FROM claims WHERE number IN (SELECT number FROM claims WHERE stored <= ? LIMIT ?)"


class Bounded(NamedTuple):
    """A table where the oldest row makes room. A running record is none of its `oldest`."""

    size: str
    oldest: str
    drop: str


CLAIMS = Bounded(
    "SELECT claims FROM sizes",
    "SELECT number, stored FROM claims ORDER BY stored, number LIMIT 1",
    "DELETE FROM claims WHERE number = ?",
)
RECORDS = Bounded(
    "SELECT records FROM sizes",
    "SELECT number, stored FROM records WHERE code <> '' ORDER BY stored, number LIMIT 1",
    "DELETE FROM records WHERE number = ?",
)
