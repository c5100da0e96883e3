-- Members, and when each was seen last.

-- name: seen_at
SELECT seen_at FROM members WHERE name = :member;

-- name: note_member
INSERT INTO members (name, joined_at, seen_at) VALUES (:member, :at, :at)
ON CONFLICT (name) DO UPDATE SET seen_at = MAX(seen_at, excluded.seen_at);

-- name: last_members
SELECT name FROM members ORDER BY seen_at DESC LIMIT :limit;
