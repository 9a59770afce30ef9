"""The tables of the ledger, and the migrations that upgrade an older file.

Instants are milliseconds since 1970 UTC. A series is a register of a usage point in one form (`index`, `interval`, `peak`) and
one resolution. A reading's `at` is the instant of an index, or the start of the period; its `span` is, in seconds, from there to
the end of an interval, or to the instant of a peak (NULL where the portal does not state it: such a peak has no sample in the
history). `visit` is when the current value was learned, `correction` what it replaced.
The days of a series with `derived_from` were calculated from the indexes of that one, for portals with `derives_days`, and whole
months from days; they do not count as readings of the account. `estimate` has the readings that the portal calls estimated
or provisional. Of an index series, readings before `thinned` are the last ones of their days; an account's `thinned` counts the
readings that were deleted. `coverage` has, for each feed (a series of questions to a portal), which days were asked; its `notes`
have the instants at which they came last. A `target` is a receiver of remote write; `owed` is the range of a series in
which there may be readings it was not sent, and the last visit that changed one of them.
"""

import sqlite3
from contextlib import suppress

APPLICATION_ID = 0x7574696C
"""Identifies our files (`PRAGMA application_id`)."""

MIGRATIONS = (
    """
    CREATE TABLE account (
        id INTEGER PRIMARY KEY,
        name TEXT NOT NULL UNIQUE,
        portal TEXT NOT NULL,
        zone TEXT NOT NULL,
        login TEXT NOT NULL,
        last_visit INTEGER,
        last_success INTEGER,
        last_new_data INTEGER,
        next_visit INTEGER,
        suspended_until INTEGER,
        duration REAL,
        up INTEGER,
        failures INTEGER NOT NULL DEFAULT 0,
        reason TEXT NOT NULL DEFAULT '',
        message TEXT NOT NULL DEFAULT '',
        notes TEXT NOT NULL DEFAULT '[]',
        holder TEXT NOT NULL DEFAULT '{}',
        readings INTEGER NOT NULL DEFAULT 0,
        corrections INTEGER NOT NULL DEFAULT 0
    );
    CREATE TABLE visit (
        id INTEGER PRIMARY KEY,
        account INTEGER NOT NULL REFERENCES account,
        at INTEGER NOT NULL
    );
    CREATE TABLE point (
        id INTEGER PRIMARY KEY,
        account INTEGER NOT NULL REFERENCES account,
        usage_point TEXT NOT NULL,
        commodity TEXT NOT NULL,
        meter TEXT NOT NULL,
        site TEXT NOT NULL,
        name TEXT NOT NULL,
        address TEXT NOT NULL,
        shown INTEGER NOT NULL DEFAULT 1,
        UNIQUE (account, usage_point)
    );
    CREATE TABLE series (
        id INTEGER PRIMARY KEY,
        point INTEGER NOT NULL REFERENCES point,
        register TEXT NOT NULL,
        direction TEXT NOT NULL,
        unit TEXT NOT NULL,
        form TEXT NOT NULL,
        resolution TEXT NOT NULL,
        nature TEXT NOT NULL,
        kind TEXT NOT NULL,
        portal_unit TEXT NOT NULL,
        description TEXT NOT NULL,
        shown INTEGER NOT NULL DEFAULT 1,
        UNIQUE (point, register, direction, unit, form, resolution)
    );
    CREATE TABLE reading (
        series INTEGER NOT NULL,
        at INTEGER NOT NULL,
        value REAL NOT NULL,
        span INTEGER,
        visit INTEGER NOT NULL,
        PRIMARY KEY (series, at)
    ) WITHOUT ROWID;
    CREATE TABLE correction (
        id INTEGER PRIMARY KEY,
        series INTEGER NOT NULL,
        at INTEGER NOT NULL,
        value REAL NOT NULL,
        span INTEGER,
        learned_by INTEGER NOT NULL REFERENCES visit,
        replaced_by INTEGER NOT NULL REFERENCES visit
    );
    CREATE TABLE fact (
        point INTEGER NOT NULL REFERENCES point,
        fact TEXT NOT NULL,
        value REAL NOT NULL,
        PRIMARY KEY (point, fact)
    ) WITHOUT ROWID;
    CREATE TABLE memory (
        account INTEGER NOT NULL REFERENCES account,
        key TEXT NOT NULL,
        value TEXT NOT NULL,
        ends INTEGER,
        PRIMARY KEY (account, key)
    ) WITHOUT ROWID;
    CREATE TABLE spending (
        account INTEGER NOT NULL REFERENCES account,
        budget TEXT NOT NULL,
        at INTEGER NOT NULL,
        calls INTEGER NOT NULL
    );
    CREATE INDEX spending_by_budget ON spending (account, budget, at);
    CREATE TABLE imported (
        account INTEGER NOT NULL REFERENCES account,
        piece TEXT NOT NULL,
        PRIMARY KEY (account, piece)
    ) WITHOUT ROWID;
    """,
    """
    CREATE TABLE target (
        id INTEGER PRIMARY KEY,
        key TEXT NOT NULL UNIQUE,
        followed INTEGER NOT NULL,
        progress TEXT NOT NULL DEFAULT '{}',
        again INTEGER
    );
    CREATE TABLE owed (
        target INTEGER NOT NULL REFERENCES target,
        series INTEGER NOT NULL,
        visit INTEGER NOT NULL,
        first INTEGER NOT NULL,
        last INTEGER NOT NULL,
        PRIMARY KEY (target, series)
    ) WITHOUT ROWID;
    """,
    """
    ALTER TABLE series ADD COLUMN thinned INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE account ADD COLUMN thinned INTEGER NOT NULL DEFAULT 0;
    """,
    """
    CREATE TABLE coverage (
        account INTEGER NOT NULL REFERENCES account,
        feed TEXT NOT NULL,
        value TEXT NOT NULL,
        notes TEXT NOT NULL DEFAULT '{}',
        PRIMARY KEY (account, feed)
    ) WITHOUT ROWID;
    DROP TABLE imported;
    DELETE FROM memory WHERE key = 'intervals-asked' OR key GLOB 'empty:*' OR key GLOB 'emptiness:*' OR key GLOB 'refused:*'
        OR key GLOB '*:[0-9][0-9][0-9][0-9][0-9][0-9][0-9][0-9][0-9][0-9][0-9][0-9][0-9][0-9]';
    """,
    """
    ALTER TABLE account ADD COLUMN derives_days INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE series ADD COLUMN part_of TEXT NOT NULL DEFAULT '';
    ALTER TABLE series ADD COLUMN value_type TEXT NOT NULL DEFAULT '';
    ALTER TABLE series ADD COLUMN derived_from INTEGER REFERENCES series;
    CREATE UNIQUE INDEX series_by_source ON series (derived_from) WHERE derived_from IS NOT NULL;
    """,
    """
    CREATE TABLE estimate (
        series INTEGER NOT NULL,
        at INTEGER NOT NULL,
        PRIMARY KEY (series, at)
    ) WITHOUT ROWID;
    """,
    """
    ALTER TABLE account ADD COLUMN derives_months INTEGER NOT NULL DEFAULT 0;
    """,
    """
    ALTER TABLE point ADD COLUMN place_id TEXT NOT NULL DEFAULT '';
    ALTER TABLE series ADD COLUMN type_id TEXT NOT NULL DEFAULT '';
    """,
)
SCHEMA_VERSION = len(MIGRATIONS)


def read_schema_version(connection: sqlite3.Connection) -> int:
    """Return the schema version of a file, 0 if it is empty."""
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def migrate(connection: sqlite3.Connection) -> None:
    """Upgrade the file to the current schema, in one transaction."""
    if read_schema_version(connection) == SCHEMA_VERSION:
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        version = read_schema_version(connection)  # again: another process may have upgraded it before our transaction began
        for step in MIGRATIONS[version:]:
            for statement in step.split(";"):
                connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute("COMMIT")
    except BaseException:
        with suppress(sqlite3.Error):  # SQLite may have rolled back by itself
            connection.execute("ROLLBACK")
        raise
