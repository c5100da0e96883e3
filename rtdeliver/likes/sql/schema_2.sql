-- Members who were banned, by whom, and when in milliseconds since the epoch.

CREATE TABLE bans (
    member TEXT PRIMARY KEY,
    moderator TEXT NOT NULL,
    at INTEGER NOT NULL
) WITHOUT ROWID;
