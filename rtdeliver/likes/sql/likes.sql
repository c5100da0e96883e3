-- Only counts of likes are stored: by reaction, and by minute since the epoch.

-- name: add_like
INSERT INTO likes (video, reaction, likes) VALUES (:video, :reaction, 1)
ON CONFLICT (video, reaction) DO UPDATE SET likes = likes + 1;

-- name: add_like_to_minute
INSERT INTO likes_by_minute (video, minute, likes) VALUES (:video, :minute, 1)
ON CONFLICT (video, minute) DO UPDATE SET likes = likes + 1;

-- name: sum_likes
SELECT COALESCE(SUM(likes), 0) FROM likes WHERE video = :video;

-- name: likes_by_reaction
SELECT reaction, likes FROM likes WHERE video = :video;

-- name: last_minutes
SELECT minute, likes FROM likes_by_minute WHERE video = :video
ORDER BY minute DESC LIMIT :limit;
