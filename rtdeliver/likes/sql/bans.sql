-- Members who were banned.

-- name: ban
INSERT INTO bans (member, moderator, at) VALUES (:member, :moderator, :at)
ON CONFLICT (member) DO NOTHING;

-- name: lift_ban
DELETE FROM bans WHERE member = :member;

-- name: banned
SELECT 1 FROM bans WHERE member = :member;
