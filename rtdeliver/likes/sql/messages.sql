-- Messages from one member to another. Later messages have higher numbers.

-- name: add_message
INSERT INTO messages (conversation, sender, recipient, text, at)
VALUES (:conversation, :sender, :recipient, :text, :at);

-- name: last_messages
SELECT message, sender, recipient, text, at, seen FROM messages
WHERE conversation = :conversation ORDER BY message DESC LIMIT :limit;

-- name: received_message
SELECT 1 FROM messages
WHERE message = :message AND conversation = :conversation AND recipient = :recipient;

-- name: see_messages
UPDATE messages SET seen = 1
WHERE conversation = :conversation AND message <= :message AND recipient = :recipient AND seen = 0;

-- name: count_unseen
SELECT COUNT(*) FROM messages
WHERE conversation = :conversation AND recipient = :recipient AND seen = 0;

-- name: last_message_of_each_conversation
SELECT message, sender, recipient, text, at, seen FROM messages
WHERE message IN (
    SELECT max(message) FROM (
        -- Each half uses an index of its own.
        SELECT conversation, max(message) AS message FROM messages
        WHERE sender = :member GROUP BY conversation
        UNION ALL
        SELECT conversation, max(message) FROM messages
        WHERE recipient = :member GROUP BY conversation
    ) GROUP BY conversation
) ORDER BY message DESC LIMIT :limit;
