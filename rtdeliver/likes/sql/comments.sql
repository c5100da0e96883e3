-- Comments on videos. Later comments have higher numbers.

-- name: add_comment
INSERT INTO comments (video, member, text, at) VALUES (:video, :member, :text, :at);

-- name: last_comments
SELECT comment, member, text, at FROM comments WHERE video = :video
ORDER BY comment DESC LIMIT :limit;

-- name: remove_comment
DELETE FROM comments WHERE comment = :comment AND video = :video;
