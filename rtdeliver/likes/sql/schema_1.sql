-- The first step creates all tables in an empty file.
--
-- `joined_at`, `seen_at` and `at` are milliseconds since the epoch, `minute` is minutes since then.
-- A semicolon ends each statement and must not stand anywhere else, not even in a comment.

CREATE TABLE members (
    name TEXT PRIMARY KEY,
    joined_at INTEGER NOT NULL,
    seen_at INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX members_by_seen ON members (seen_at);

CREATE TABLE likes (
    video TEXT NOT NULL,
    reaction TEXT NOT NULL,
    likes INTEGER NOT NULL,
    PRIMARY KEY (video, reaction)
) WITHOUT ROWID;

CREATE TABLE likes_by_minute (
    video TEXT NOT NULL,
    minute INTEGER NOT NULL,
    likes INTEGER NOT NULL,
    PRIMARY KEY (video, minute)
) WITHOUT ROWID;

CREATE TABLE comments (
    comment INTEGER PRIMARY KEY AUTOINCREMENT,
    video TEXT NOT NULL,
    member TEXT NOT NULL,
    text TEXT NOT NULL,
    at INTEGER NOT NULL
);
CREATE INDEX comments_by_video ON comments (video, comment);

CREATE TABLE messages (
    message INTEGER PRIMARY KEY AUTOINCREMENT,
    conversation TEXT NOT NULL,
    sender TEXT NOT NULL,
    recipient TEXT NOT NULL,
    text TEXT NOT NULL,
    at INTEGER NOT NULL,
    seen INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX messages_by_conversation ON messages (conversation, message);
CREATE INDEX messages_by_sender ON messages (sender, conversation, message);
CREATE INDEX messages_by_recipient ON messages (recipient, conversation, message);
